"""Units of work of a step: the same pure function over processes here, over the pods of one job on a cluster.

A unit and its result are JSON wherever they go, so both ways compute the same; heavy bytes go into the store, and
results name them by reference. On a cluster unit `i` belongs to replica `i % N` of one TorchX app. Its result is
an object of its own: what a lost replica had done is not done again by its retry, and a step that is started again
after its launcher was lost only reads.
"""

from __future__ import annotations

import functools
import inspect
import json
import threading
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from zoetrope.infra import launch
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_json
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, open_store
from zoetrope.infra.workers.exchange import Exchange
from zoetrope.infra.workers.pool import map_in_processes

if TYPE_CHECKING:
    from torchx.specs import AppDef

Unit = TypeVar("Unit")
Result = TypeVar("Result")

POLL_SECONDS = 10.0
"""Between two looks at how many results there are; longer where a look itself takes long."""
REPORTS = 50
"""Progress messages of one fan-out on this machine, about."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class WorkerContext:
    """Where a unit is worked on; never part of a result.

    Attributes:
        root: of the store.
        scratch: local folder that the units of one process, or of several, share.
    """

    root: str
    scratch: Path

    @property
    def store(self) -> Store:
        """The store, opened once in a process."""
        return _opened(self.root)


def map_units(
    function: Callable[[Unit, WorkerContext], Result],
    units: Sequence[Unit],
    context: StepContext,
    workers: int,
    what: str = "units",
    *,
    inline: bool = False,
    key: str | None = None,
) -> Iterator[Result]:
    """Yields `function(unit, worker_context)` for every unit, in order; the same for any number of workers.

    Args:
        function: importable by name, with annotated types that pydantic reads and writes (dataclasses, models); its
            result depends on the unit alone, and is small.
        units: what to treat.
        context: of the step.
        workers: processes on this machine, replicas (pods) on a cluster.
        what: names the units in progress messages, e.g. `sources`.
        inline: a unit takes a moment, so a single one is done in this process, on a cluster as well.
        key: digest of all that the results depend on beside the units (code, libraries): where it is met again, what
            was done before is not done again. The step's own key by default, which holds all of its configuration.

    Raises:
        ZoetropeError: what `function` raised, or the workers were lost (retryable).
    """
    of_unit, of_result = adapters(function)
    texts = [dump(of_unit, unit) for unit in units]
    if Settings().cluster and not (inline and len(units) == 1):
        answers = _over_replicas(function, texts, context, workers, what, context.key if key is None else key)
    else:
        here = functools.partial(apply, function, WorkerContext(context.store.root, context.work))
        answers = _reported(map_in_processes(here, texts, workers), len(texts), context, what)
    for answer in answers:
        yield load(of_result, answer)


def apply(function: Callable[[Any, WorkerContext], Any], worker_context: WorkerContext, unit: str) -> str:
    """One unit, JSON in and JSON out: what every worker runs, wherever it is."""
    of_unit, of_result = adapters(function)
    return dump(of_result, function(load(of_unit, unit), worker_context))


@functools.lru_cache(maxsize=8)
def adapters(function: Callable[[Any, WorkerContext], Any]) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    """Readers and writers of the function's units and results, by its annotations."""
    hints = typing.get_type_hints(function)
    first = next(iter(inspect.signature(function).parameters))
    return TypeAdapter(hints[first]), TypeAdapter(hints["return"])


def dump(adapter: TypeAdapter[Any], value: Any) -> str:
    """JSON of a unit or result. Not pydantic's own, which writes null for a NaN."""
    return json.dumps(adapter.dump_python(value), default=_plain, separators=(",", ":"))


def load(adapter: TypeAdapter[Any], text: str) -> Any:
    """The inverse of `dump`."""
    return adapter.validate_python(json.loads(text))


def _plain(value: Any) -> str:
    if isinstance(value, (Fraction, Path)):
        return str(value)
    raise TypeError(f"a unit or its result holds {value!r} of type {type(value).__name__}, which is not JSON")


@functools.lru_cache(maxsize=4)
def _opened(root: str) -> Store:
    return open_store(root)


def _reported(answers: Iterator[str], count: int, context: StepContext, what: str) -> Iterator[str]:
    every = max(1, count // REPORTS)
    for number, answer in enumerate(answers, 1):
        if number % every == 0 or number == count:
            context.progress(f"{number} of {count} {what}", number / count)
        yield answer


def _over_replicas(
    function: Callable[[Any, WorkerContext], Any],
    texts: Sequence[str],
    context: StepContext,
    workers: int,
    what: str,
    given: str,
) -> Iterator[str]:
    """Launches the replicas for what has no result yet, and reads all results."""
    name = f"{function.__module__}:{function.__qualname__}"
    key = digest_json({"function": name, "key": given, "units": list(texts)})
    exchange = Exchange(context.store, key)
    if texts and len(exchange.done()) < len(texts):
        replicas = min(workers, len(texts))
        exchange.write_units(texts, replicas)
        exchange.clear_failures()
        try:
            with _watched(exchange, len(texts), context, what):
                launch.run_app(app_definition(context, key, replicas, name), context, digest=key)
        except ZoetropeError as error:
            failure = exchange.failure()
            raise failure or error from error
        missing = len(texts) - len(exchange.done())
        if missing:
            raise ZoetropeError(
                f"{context.step}: {missing} of {len(texts)} {what} have no result",
                "workers were lost; the next attempt does only what is missing",
                retryable=True,
            )
    yield from exchange.results(len(texts))


def app_definition(context: StepContext, key: str, replicas: int, function: str) -> AppDef:
    """The job for TorchX: equal replicas, each of which finds its number in its environment."""
    from torchx.specs import AppDef, Role

    role = Role(
        name="worker",
        image="",
        entrypoint="python",
        args=["-m", "zoetrope.infra.workers.replica", context.store.root, key, str(replicas), function],
        env=dict(ONE_THREAD),
        num_replicas=replicas,
    )
    return AppDef(name=context.step.replace("_", "-"), roles=[role])


@contextmanager
def _watched(exchange: Exchange, count: int, context: StepContext, what: str) -> Iterator[None]:
    """Reports how many results there are while the block runs."""
    over = threading.Event()

    def look() -> None:
        pause = POLL_SECONDS
        while not over.wait(pause):
            started = time.monotonic()
            try:
                done = len(exchange.done())
            except ZoetropeError:
                continue  # progress is not worth a failure
            context.progress(f"{done} of {count} {what}", done / count)
            pause = max(POLL_SECONDS, 20 * (time.monotonic() - started))

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
