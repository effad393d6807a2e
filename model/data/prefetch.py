"""Prepares what training needs next while it works: bounded, in order, from any position."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Hands out `prepare(0)`, `prepare(1)`, ... prepared by background threads, at most `ahead` of them in advance.

    `prepare` depends on the step alone (and on what its owner changes before `restart`), so a run that starts at any
    step sees what one that came there by itself sees, whatever the number of threads.

    Args:
        prepare: makes what a step needs; called in other threads, of `workers` several at once.
        ahead: steps that are prepared, or being prepared, beyond the one that was asked for.
        workers: threads; more than one where `prepare` waits for other machines longer than a step takes.
        stop: first step that does not exist; None for no end.

    Attributes:
        data_wait: seconds that `get` has waited so far.
    """

    def __init__(
        self, prepare: Callable[[int], Batch], ahead: int = 2, workers: int = 1, stop: int | None = None
    ) -> None:
        if ahead < 1 or workers < 1:
            raise ValueError(f"ahead and workers have to be at least 1, not {ahead} and {workers}")
        self._prepare, self._ahead, self._stop = prepare, ahead, stop
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(workers, "prefetch")
        self._pending: deque[Future[Batch]] = deque()
        self._step = 0  # of the first one in `_pending`
        self.data_wait = 0.0

    def get(self, step: int) -> Batch:
        """What `prepare(step)` returns; any step may be asked for, the one behind the last is ready.

        Raises:
            IndexError: the step is behind the end.
            RuntimeError: it is closed.
            BaseException: what `prepare(step)` raised; earlier steps are not touched by it. What was prepared beyond
                is dropped, and the step is tried anew when it is asked for again.
        """
        if self._pool is None:
            raise RuntimeError("the prefetcher is closed")
        if step < 0 or (self._stop is not None and step >= self._stop):
            raise IndexError(f"there is no step {step}: {self._stop} is the first that does not exist")
        if step != self._step:
            self.restart()
            self._step = step
        self._fill(self._pool, step)
        future = self._pending.popleft()
        self._fill(self._pool, step + 1)
        started = time.perf_counter()
        try:
            batch = future.result()
        except BaseException:
            self.restart()  # what stands beyond may depend on how the error is dealt with
            raise
        finally:
            self.data_wait += time.perf_counter() - started
        self._step = step + 1
        return batch

    def restart(self) -> None:
        """Drops what was prepared: what `prepare` does has changed. Waits for nothing."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def close(self) -> None:
        """Drops what was prepared and waits for what is being prepared; closing twice does no harm."""
        pool, self._pool = self._pool, None
        self.restart()
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Prefetcher[Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, pool: ThreadPoolExecutor, first: int) -> None:
        """Sends steps from `first` on until enough are on their way; `first` is that of `_pending`."""
        end = first + self._ahead if self._stop is None else min(first + self._ahead, self._stop)
        for step in range(first + len(self._pending), end):
            self._pending.append(pool.submit(self._prepare, step))
