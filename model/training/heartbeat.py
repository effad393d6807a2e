"""The ranks' side of the supervisor: what a rank is doing, where a process outside can read it, and its stacks.

A rank writes 48 bytes into a file that is mapped into memory: no system call, no lock, and no failure where the disk is
full. Whoever started the ranks gives them the folder (`FOLDER`); without it nothing is written.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import statistics
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FOLDER = "ZOETROPE_HEARTBEATS"
"""Environment variable: the folder of the files below, the same for all ranks of a node."""
DUMP_SIGNAL = signal.SIGUSR1
"""Makes a rank write the stacks of all its threads, wherever it hangs: the handler is in C and waits for nothing."""
PHASES = STARTING, TRAINING, SAVING, VALIDATING, FINISHING = (
    "starting",
    "training",
    "saving",
    "validating",
    "finishing",
)
"""What a rank can be doing. The first step (which may compile) belongs to `starting`."""
REMEMBERED = 33
"""Steps of which the median is taken: enough that one slow one does not move it, few enough to follow a change."""

_LAYOUT = struct.Struct("<6q")  # pid, main thread, changes, finished steps, phase, median in ns


@dataclass(frozen=True)
class Pulse:
    """What a rank has written.

    Attributes:
        pid: of the process; 0 before it has written anything.
        thread: identity of its main thread.
        changes: counts what the rank has said; the same number means that nothing has happened since.
        step: finished steps of the loop, those of former attempts included.
        phase: one of `PHASES`.
        median: seconds of a step, the median of the last ones; 0 before the second one.
    """

    pid: int
    thread: int
    changes: int
    step: int
    phase: str
    median: float


def supervised_folder() -> Path | None:
    """Where the ranks of this node write for the process that started them; None where nobody reads it."""
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder else None


def pulse_file(folder: Path, local_rank: int) -> Path:
    """Where a rank writes what it is doing."""
    return folder / f"rank-{local_rank}.pulse"


def stack_file(folder: Path, local_rank: int) -> Path:
    """Where a rank writes its stacks when it gets `DUMP_SIGNAL`."""
    return folder / f"rank-{local_rank}.stacks"


def read_pulse(folder: Path, local_rank: int) -> Pulse:
    """What a rank of this node has written last; all 0 where it has not come so far."""
    path = pulse_file(folder, local_rank)
    data = path.read_bytes() if path.exists() else b""
    if len(data) < _LAYOUT.size:
        return Pulse(0, 0, 0, 0, STARTING, 0.0)
    pid, thread, changes, step, phase, median = _LAYOUT.unpack(data[: _LAYOUT.size])
    return Pulse(pid, thread, changes, step, PHASES[phase], median / 1e9)


@dataclass
class Heartbeat:
    """Says what this rank is doing; all methods cost less than 10 microseconds.

    All ranks call them at the same places: a rank that waits for one that saves has to say that it is saving too.

    Attributes:
        memory: the mapped file; None where nobody listens.
    """

    memory: mmap.mmap | None = None
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _since: float = 0.0
    _changes: int = 0
    _step: int = 0
    _phase: str = STARTING
    _stacks: object = None  # faulthandler needs the file to stay open

    @classmethod
    def start(cls, local_rank: int) -> Heartbeat:
        """Begins to beat where the environment names a folder, and lets the supervisor ask for stacks."""
        folder = supervised_folder()
        if folder is None:
            return cls()
        with pulse_file(folder, local_rank).open("w+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, _LAYOUT.size)  # blocks of its own: later nothing can be missing
            memory = mmap.mmap(stream.fileno(), _LAYOUT.size)
        stacks = stack_file(folder, local_rank).open("wb")
        faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
        beat = cls(memory, _stacks=stacks)
        beat.begin(STARTING)
        return beat

    def begin(self, phase: str) -> None:
        """From here to the end of the next step something else than a plain step may take its time."""
        self._phase = phase
        self._write()

    def step(self, finished: int) -> None:
        """A step of the loop has ended; what follows is the next one, unless `begin` says otherwise.

        Args:
            finished: steps that the model has learned from, those of former attempts included.
        """
        now = time.monotonic()
        if self._phase == TRAINING:  # a step with a start or a save in it says nothing about steps
            self._seconds.append(now - self._since)
        self._since, self._step, self._phase = now, finished, TRAINING
        self._write()

    def _write(self) -> None:
        if self.memory is None:
            return
        self._changes += 1
        median = statistics.median(self._seconds) if self._seconds else 0.0
        thread = threading.main_thread().ident or 0
        values = os.getpid(), thread, self._changes, self._step, PHASES.index(self._phase), int(median * 1e9)
        _LAYOUT.pack_into(self.memory, 0, *values)


class Pace:
    """Keeps the host at most a few steps before its device, so that a heartbeat tells of work that was done.

    Without it the host queues steps in no time until it reads a number, and waits there for all of them at once: the
    median would be that of queueing. Waiting for a step that is some steps back leaves the device always with work.

    Args:
        device: of the model; on a CPU there is nothing to wait for.
        ahead: steps that may be queued.
    """

    def __init__(self, device: torch.device, ahead: int = 2) -> None:
        self._device, self._ahead = device, ahead
        self._events: deque[torch.Event] = deque()

    def step(self) -> None:
        """Called after each step was queued."""
        if self._device.type == "cpu":
            return
        import torch

        event = torch.Event(self._device)
        event.record(torch.accelerator.current_stream(self._device))
        self._events.append(event)
        if len(self._events) > self._ahead:
            self._events.popleft().synchronize()
