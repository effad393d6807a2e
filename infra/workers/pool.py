"""Maps a function over items in other processes, results in the order of the items.

`multiprocessing` is not used: its workers import the caller's main module again (all of kfp, inside a pipeline), and
outlive a caller that was killed. These workers end as soon as the pipe from their caller closes.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from zoetrope.infra.errors import ZoetropeError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yields `function(item)` for every item, in order.

    Args:
        function: importable by name, like its arguments' types; must depend on its item alone.
        items: what to process.
        workers: processes; with 1 everything happens in this process.

    Raises:
        ZoetropeError: a worker was killed (retryable: mostly the machine ran out of memory).
        Exception: whatever `function` raised.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    team: list[_Worker] = []
    pool = ThreadPoolExecutor(workers, "worker")

    def process(item: Item) -> Result:
        worker = idle.get()
        try:
            result: Result = worker.call(function, item)
        finally:
            idle.put(worker)
        return result

    try:
        for _ in range(workers):
            team.append(_Worker())
            idle.put(team[-1])
        yield from pool.map(process, items)
    finally:
        # Workers first: a thread that waits for a killed worker wakes up at once, one that works would be waited for.
        for worker in team:
            worker.kill()
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """One process that answers one call at a time."""

    def __init__(self) -> None:
        # One thread each: several workers with several threads each would fight for the same cores.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zoetrope.infra.workers.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump((function, item), self.process.stdin)
            self.process.stdin.flush()
            failed, value = pickle.load(self.process.stdout)  # noqa: S301 - comes from our own process
        except (EOFError, BrokenPipeError, pickle.UnpicklingError, ValueError) as error:
            raise ZoetropeError(
                f"a worker process ended with code {self.process.poll()}",
                "the machine may have run out of memory; run again, with fewer `workers` if it happens again",
                retryable=True,
            ) from error
        if failed:
            raise value
        return value

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # bytes that a killed worker did not read
