"""Executes a step: ledger, usage, events, record, and errors in one line."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.errors import ZoetropeError, placed
from zoetrope.infra.keys import KeyParts, find_result, store_result, with_maker
from zoetrope.infra.ledger import LedgerChain, collect, next_attempt
from zoetrope.infra.ledger.chain import Outcome
from zoetrope.infra.prices import PriceSheet, cost
from zoetrope.infra.references import digest_json
from zoetrope.infra.resources import Resources
from zoetrope.infra.runs import run_price_sheet
from zoetrope.infra.settings import Settings
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.infra.steps.outputs import DOCUMENT, Outputs
from zoetrope.infra.steps.publish import LAUNCHER_RESOURCES, ClusterRun
from zoetrope.infra.steps.reuse import reuse
from zoetrope.infra.steps.run_record import finish_after_retry
from zoetrope.infra.steps.usage import UsageMonitor
from zoetrope.infra.store import Store, open_store, put_json
from zoetrope.infra.store.access import DamagedContentError
from zoetrope.infra.store.local import disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoetrope.infra.placement import Placement


Work = Callable[[StepContext], StepResult]


def execute(
    step: str,
    work: Work,
    *,
    config: str,
    inputs: Mapping[str, str] | None = None,
    parts: KeyParts | None = None,
    outputs: Outputs | None = None,
    placement: Placement | None = None,
) -> tuple[str, str]:
    """Runs `work` as one attempt of `step`, or takes its known result; returns (product, record) references.

    Args:
        step: name of the step in the run, e.g. `stage_1`.
        work: the typed step function with everything but its context bound.
        config: the step's resolved configuration as JSON; part of the record.
        inputs: name -> reference string of what the step reads; part of the record.
        parts: the step key; a result that is known for it is used, and a new one is remembered. None for a step that
            always runs.
        outputs: artifacts of KFP; None outside KFP.
        placement: where the step's job runs on a cluster.

    A `ZoetropeError` ends the process with its exit code and one message on standard error; the same message lies
    in the run directory (`failure.json`) for whoever started the process. On a cluster a permanent failure is a
    verdict: KFP's next automatic retry ends at once with the same message.
    """
    settings = Settings()
    store = open_store(settings.store)
    cluster = ClusterRun(settings, store) if settings.cluster else None
    if cluster is not None:
        cluster.run_files.verdicts.refuse_known_failure(step, retry=settings.retry)
    directory = settings.run_directory
    if directory is None:
        raise ZoetropeError(
            "ZOETROPE_RUN_DIRECTORY is not set", "start the step with `zoetrope run` or `zoetrope step`"
        )
    fresh = settings.fresh or (cluster is not None and cluster.fresh)
    if parts is not None and not fresh and (known := find_result(store, step, parts.digest())):
        references = reuse(known, settings, store, directory, outputs)
        if cluster is not None:
            finish_after_retry(settings, cluster.run_files, step)
        return references
    attempt = next_attempt(store, settings.run_id, step)
    key = parts.digest() if parts else digest_json({"step": step, "config": config, "inputs": dict(inputs or {})})
    if fresh:  # nor is what earlier runs left half-way taken up
        key = digest_json([key, settings.run_id])
    context = StepContext(
        step=step,
        store=store,
        work=directory / "work" / f"{step}.{attempt}",
        run_directory=directory,
        run_id=settings.run_id,
        attempt=attempt,
        resume=directory.parent.parent / "resume" / f"{step}-{key[:16]}",
        placement=placement,
        key=key,
        fresh=fresh,
    )
    # The pods of a job are collected by themselves; the one that launches it holds next to nothing.
    resources = LAUNCHER_RESOURCES if placement is not None else Resources(**settings.resources.get(step, {}))
    chain = LedgerChain(store, settings.run_id, step, attempt)
    started = time.time()
    try:
        with _scratch(context), _terminate_as_exit():
            sheet = run_price_sheet(store, settings)
            chain.allocate(resources, sheet.name, pod=settings.pod)
            context.event("started", attempt=attempt)
            with UsageMonitor(chain.usage) as monitor:
                result = work(context)
            chain.usage(monitor.cpu_seconds, monitor.peak_memory_bytes)
            chain.outcome("succeeded")
    except BaseException as error:  # noqa: BLE001 - re-raised, or ended with its exit code, by _fail
        _fail(context, chain, error, cluster)
    record = _record(settings, store, context, result, monitor, sheet, started)
    record |= {"config": json.loads(config), "inputs": dict(inputs or {}), "key": parts.digest() if parts else ""}
    reference = put_json(store, record)
    if parts is not None:
        store_result(store, parts, settings.run_id, str(reference), result)
    links = cluster.finished(context, record, str(reference)) if cluster is not None else {}
    if cluster is not None:
        finish_after_retry(settings, cluster.run_files, step)
    if outputs is not None:
        outputs.write(step, result, links)
    context.event(
        "finished", record=str(reference), product=str(result.product), key_figure=result.key_figure,
        seconds=record["seconds"], cost_usd=record["cost_usd"],
    )  # fmt: skip
    if context.resume is not None:
        shutil.rmtree(context.resume, ignore_errors=True)
    return str(result.product), str(reference)


def _record(
    settings: Settings,
    store: Store,
    context: StepContext,
    result: StepResult,
    monitor: UsageMonitor,
    sheet: PriceSheet,
    started: float,
) -> dict[str, Any]:
    entries = [entry for entry in collect(store, settings.run_id) if entry.step == context.step]
    finished = time.time()
    return {
        "schema": "zoetrope.record.v1",
        "run_id": settings.run_id,
        "step": context.step,
        "attempt": context.attempt,
        "started": started,
        "finished": finished,
        "seconds": round(finished - started, 3),
        "resources": settings.resources.get(context.step, {}),
        "usage": {
            "cpu_seconds": round(monitor.cpu_seconds, 2),
            "peak_memory_bytes": monitor.peak_memory_bytes,
        },
        # Failed and killed attempts of this run cost as well.
        "cost_usd": str(sum(cost(entry, sheet) for entry in entries)),
        "price_sheet": sheet.name,
        "product": str(result.product),
        "key_figure": result.key_figure,
        "metrics": result.metrics,
        "parameters": result.parameters,
        "artifacts": {name: str(reference) for name, reference in sorted(result.artifacts.items())},
        "gates": result.gates,
        "page": "" if result.page.startswith(DOCUMENT) else result.page,
    }


@contextmanager
def _scratch(context: StepContext) -> Iterator[None]:
    context.work.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        shutil.rmtree(context.work, ignore_errors=True)


@contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that scratch files go and launched jobs are ended."""

    def raise_exit(signal_number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(EXIT_TERMINATED)

    previous = signal.signal(signal.SIGTERM, raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fail(context: StepContext, chain: LedgerChain, error: BaseException, cluster: ClusterRun | None) -> NoReturn:
    """Notes the failure for the ledger, the command line and the user, then ends the process or re-raises."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = Path(error.filename) if isinstance(error.filename, str) else context.run_directory
        error = disk_full(place if place.is_dir() else place.parent)
    if isinstance(error, DamagedContentError):
        error = with_maker(context.store, error)
    kind: Outcome = "cancelled" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "failed"
    fields: dict[str, Any] = {"kind": kind, "error": type(error).__name__, "message": str(error)}
    if isinstance(error, ZoetropeError):
        fields |= {"headline": error.headline, "hint": error.hint, "exit_code": error.exit_code}
    if cluster is not None and kind == "cancelled":
        # A pod that is asked to end has less than half a second: no call gets through, the next attempt goes on.
        raise error
    try:
        chain.outcome(kind, (error.headline if isinstance(error, ZoetropeError) else str(error))[:500])
        if cluster is not None:
            cluster.failed(context, error)
        context.event("failed", **fields)
        (context.run_directory / "failure.json").write_text(json.dumps({"step": context.step, **fields}))
    except (OSError, ZoetropeError) as second:  # a full disk may refuse these as well; the first error counts
        print(f"zoetrope: the failure could not be recorded: {second}", file=sys.stderr)  # noqa: T201
    if isinstance(error, ZoetropeError):
        print(f"zoetrope: {placed(context.step, str(error))}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_code) from None
    raise error
