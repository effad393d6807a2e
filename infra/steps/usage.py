"""What a step's process tree really uses, sampled while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

import psutil

HEARTBEAT_SECONDS = 5.0


class UsageMonitor:
    """Samples CPU seconds and resident memory of this process and its descendants.

    Args:
        heartbeat: called every `HEARTBEAT_SECONDS` with (cpu_seconds, peak_memory_bytes): the ledger notes it, so
            that a killed attempt is billed up to its last sign of life.
    """

    def __init__(self, heartbeat: Callable[[float, int], None]) -> None:
        self._heartbeat = heartbeat
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._root = psutil.Process()
        self._cpu_by_process: dict[tuple[int, float], float] = {}
        self.peak_memory_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """User and system seconds of all processes seen so far."""
        return sum(self._cpu_by_process.values())

    def __enter__(self) -> UsageMonitor:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Reads the process tree once."""
        memory = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    key = (process.pid, process.create_time())
                self._cpu_by_process[key] = times.user + times.system
            except psutil.Error:  # it ended between the listing and the reading
                continue
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)

    def _run(self) -> None:
        ticks = 0
        while not self._done.wait(1.0):
            self.sample()
            ticks += 1
            if ticks % int(HEARTBEAT_SECONDS) == 0:
                self._heartbeat(self.cpu_seconds, self.peak_memory_bytes)
