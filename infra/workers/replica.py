"""One replica of a fan-out on a cluster: does its units one by one, but those that have a result already.

python -m zoetrope.infra.workers.replica STORE KEY REPLICAS MODULE:FUNCTION

Its number comes from the environment: Kubernetes sets JOB_COMPLETION_INDEX in the pods of an indexed job,
torchrun's variable PET_NODE_RANK is taken as well.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.signals import EXIT_TERMINATED, end_on_sigterm
from zoetrope.infra.store import open_store
from zoetrope.infra.workers.exchange import Exchange
from zoetrope.infra.workers.units import WorkerContext, apply

INDEX_VARIABLES = ("JOB_COMPLETION_INDEX", "PET_NODE_RANK")


def work(root: str, key: str, replicas: int, index: int, function: Callable[[Any, WorkerContext], Any]) -> None:
    """Does all units of one replica.

    Args:
        root: of the store.
        key: of the fan-out.
        replicas: how many there are.
        index: which one this is.
        function: see `map_units`.

    Raises:
        ZoetropeError: what the function raised; it is noted for the step as well.
    """
    exchange = Exchange(open_store(root), key)
    mine = exchange.units(replicas, index)
    scratch = Path(tempfile.gettempdir()) / "zoetrope" / f"{key[:16]}-{index}"
    scratch.mkdir(parents=True, exist_ok=True)
    worker_context = WorkerContext(root, scratch)
    try:
        for place, (number, unit) in enumerate(mine, 1):
            if exchange.has_result(number):
                _say(f"replica {index} of {replicas}: unit {number} is there already ({place} of {len(mine)})")
                continue
            try:
                exchange.put_result(number, apply(function, worker_context, unit))
            except ZoetropeError as error:
                exchange.put_failure(number, error)
                raise
            _say(f"replica {index} of {replicas}: unit {number} done ({place} of {len(mine)})")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def replica_index(environment: Mapping[str, str], replicas: int) -> int:
    """This replica's number; raises ZoetropeError where nobody says it, or it is too large."""
    name = next((name for name in INDEX_VARIABLES if environment.get(name, "").isdecimal()), None)
    if name is None:
        raise ZoetropeError(f"none of {', '.join(INDEX_VARIABLES)} holds this replica's number", "run it as a job")
    index = int(environment[name])
    if index >= replicas:
        raise ZoetropeError(f"{name} is {index}, the job has {replicas} replicas", "start exactly that many replicas")
    return index


def main(arguments: list[str]) -> int:
    """Runs one replica; returns the exit status."""
    end_on_sigterm(EXIT_TERMINATED)  # a unit that is not done has left nothing
    root, key, replicas, name = arguments
    module, _, function = name.partition(":")
    try:
        index = replica_index(os.environ, int(replicas))
        work(root, key, int(replicas), index, getattr(importlib.import_module(module), function))
    except ZoetropeError as error:
        print(f"zoetrope: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the log of the pod


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
