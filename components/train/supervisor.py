"""Watches the ranks of one node from outside: who hangs is named with the stacks of all, and the job ends for restart.

A process that waits for a peer that is gone cannot say so; the one that started them can. It knows the ranks as its
children, reads what they write (`zoetrope.model.training.heartbeat`), and looks into /proc at those that are silent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from zoetrope.components.train.stacks import Stack, main_stack
from zoetrope.model.training.heartbeat import DUMP_SIGNAL, TRAINING, Pulse, read_pulse, stack_file

STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
DUMP_SECONDS = 2.0
"""That stacks get: C code answers in microseconds, a process that waits for the disk (state D) never does."""


@dataclass(frozen=True)
class Limits:
    """How long silence may last, in seconds of looking on.

    Attributes:
        factor: a step may take so many times the median of the last ones.
        floor: but always so long; a short step meets pauses that are longer than itself.
        grace: of everything that is no plain step: start and first step, saving, validation, the end. PyTorch itself
            gives a collective as long (gloo: 1,800 s).
        stopped: a process may be stopped (SIGSTOP, a debugger).
        poll: between two looks.
    """

    factor: float = 5.0
    floor: float = 20.0
    grace: float = 1800.0
    stopped: float = 10.0
    poll: float = 0.5

    def of(self, pulse: Pulse) -> float:
        """The limit of a rank that is where it says."""
        return max(self.floor, self.factor * pulse.median) if pulse.phase == TRAINING else self.grace


@dataclass(frozen=True)
class Rank:
    """One rank, as it is seen from outside.

    Attributes:
        number: its global rank.
        pid: of its process.
        status: of its process, as psutil names it.
        pulse: what it has written.
    """

    number: int
    pid: int
    status: str
    pulse: Pulse

    @property
    def stopped(self) -> bool:
        """Whether the process runs not at all until somebody lets it go on."""
        return self.status in STOPPED


@dataclass
class Watch:
    """Counts how long each rank has been silent, by looks and not by any clock's time of day.

    What passes between two looks counts as at most `longest`: a machine that slept, or a supervisor that was itself
    stopped, has not been looking, and no jump of a clock makes a rank late.
    """

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    _last: float | None = None
    _watched: float = 0.0
    _changed: dict[int, tuple[tuple[int, int], float]] = field(default_factory=dict)
    _running: dict[int, float] = field(default_factory=dict)

    @property
    def longest(self) -> float:
        """Seconds that one look adds at most."""
        return 4 * self.limits.poll

    def look(self, ranks: Sequence[Rank]) -> str:
        """What is wrong, as the beginning of a sentence; empty where nothing is.

        Args:
            ranks: those of this node that have not ended.
        """
        now = self.clock()
        if self._last is not None:
            self._watched += min(max(now - self._last, 0.0), self.longest)
        self._last = now
        for rank in ranks:
            said = rank.pid, rank.pulse.changes
            if self._changed.get(rank.number, (None, 0.0))[0] != said:
                self._changed[rank.number] = said, self._watched
            if not rank.stopped or rank.number not in self._running:
                self._running[rank.number] = self._watched
        stopped = [rank for rank in ranks if self._watched - self._running[rank.number] >= self.limits.stopped]
        if stopped:
            return f"a rank has been stopped for {self.limits.stopped:.0f} s"
        silent = [(self._watched - self._changed[rank.number][1], rank) for rank in ranks]
        if not ranks or any(seconds < self.limits.of(rank.pulse) for seconds, rank in silent):
            return ""  # the ranks move together: where one of them still may take its time, the others wait for it
        seconds, rank = min(silent, key=lambda each: each[0])
        doing = f"while {rank.pulse.phase}" if rank.pulse.phase != TRAINING else "with a step"
        usual = f", a step takes {rank.pulse.median:.2g} s" if rank.pulse.median else ""
        return f"no rank got on {doing} for {seconds:.0f} s (after step {rank.pulse.step}{usual})"


@dataclass(frozen=True)
class Verdict:
    """Why the ranks were ended.

    Attributes:
        headline: one line: what was seen, and which rank is to blame where that can be told.
        report: the same for all ranks, with their stacks.
    """

    headline: str
    report: str


def judged(reason: str, ranks: Sequence[Rank], stacks: Mapping[int, Stack | None]) -> Verdict:
    """Whose fault it is: a rank that is stopped, one that is behind, or one that does not wait for others.

    Args:
        reason: of `Watch.look`.
        ranks: those of this node.
        stacks: rank -> stack of its main thread; None where it gave none.
    """
    lines = [_described(rank, stacks.get(rank.number)) for rank in ranks]
    furthest = max(rank.pulse.step for rank in ranks)
    waits = {rank.number for rank in ranks if (stack := stacks.get(rank.number)) is not None and stack.waits}
    suspects = (
        [line for line, rank in zip(lines, ranks, strict=True) if rank.stopped]
        or [line for line, rank in zip(lines, ranks, strict=True) if rank.pulse.step < furthest]
        or [line for line, rank in zip(lines, ranks, strict=True) if rank.number not in waits]
    )
    if suspects and (len(suspects) < len(ranks) or len(ranks) == 1):
        headline = f"{reason}: {'; '.join(suspects)}"
    elif suspects:
        headline = f"{reason}: all ranks of this node hang alike, {lines[0]}"
    else:
        headline = f"{reason}: all ranks of this node wait for others, {lines[0]}"
    texts = [
        f"{line}\n{stack.text if (stack := stacks.get(rank.number)) is not None else '  (no stack)'}"
        for line, rank in zip(lines, ranks, strict=True)
    ]
    return Verdict(headline, "\n".join([headline, *texts]))


def _described(rank: Rank, stack: Stack | None) -> str:
    name = f"rank {rank.number} (pid {rank.pid}, after step {rank.pulse.step})"
    if rank.stopped:
        return f"{name} is stopped (SIGSTOP, or a debugger)" + (f" in {stack.place}" if stack else "")
    if stack is None:
        return f"{name} answers no signal" if rank.status == psutil.STATUS_DISK_SLEEP else f"{name} shows no stack"
    return f"{name} {'waits' if stack.waits else 'is'} in {stack.place}"


class Supervisor(threading.Thread):
    """The watch over the ranks that this process starts; `verdict` stands once it has ended them, and after `end`.

    Args:
        folder: where the ranks write.
        limits: of silence.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.folder, self.limits = folder, limits or Limits()
        self.verdict: Verdict | None = None
        self._numbers: dict[int, tuple[int, int]] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Looks until something is wrong, or `end`."""
        watch = Watch(self.limits)
        while not self._over.wait(self.limits.poll):
            ranks = self.ranks()
            reason = watch.look(list(ranks.values()))
            if reason:
                self.verdict = judged(reason, list(ranks.values()), self._end_ranks(ranks))
                print(f"zoetrope: {self.verdict.report}", file=sys.stderr, flush=True)  # noqa: T201
                watch = Watch(self.limits)  # of those that are started in their place

    def end(self) -> None:
        """No more looks."""
        self._over.set()
        self.join()

    def ranks(self) -> dict[int, Rank]:
        """Local rank -> what is seen of it; without those that have ended."""
        found = {}
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.pid not in self._numbers:
                    environment = child.environ()
                    if "LOCAL_RANK" not in environment:  # nor has a child that is just being started
                        continue
                    self._numbers[child.pid] = int(environment["LOCAL_RANK"]), int(environment["RANK"])
                local, number = self._numbers[child.pid]
                status = child.status()
                if status != psutil.STATUS_ZOMBIE:
                    found[local] = Rank(number, child.pid, status, read_pulse(self.folder, local))
        return dict(sorted(found.items()))

    def _end_ranks(self, ranks: Mapping[int, Rank]) -> dict[int, Stack | None]:
        """Ends the ranks; their stacks. Stopped ones come last: they go on to show theirs, and must meet no peer."""
        stacks: dict[int, Stack | None] = {}
        for stopped in (False, True):
            chosen = {local: rank for local, rank in ranks.items() if rank.stopped == stopped}
            stacks |= {rank.number: self._stack(local, rank) for local, rank in chosen.items()}
            for rank in chosen.values():
                _kill(rank.pid)
        return stacks

    def _stack(self, local: int, rank: Rank) -> Stack | None:
        """Asks a rank for its stacks; one that is stopped goes on for it."""
        if rank.pulse.pid != rank.pid:  # it does not listen so far, and would die of the signal
            return None
        file = stack_file(self.folder, local)
        before = file.stat().st_size
        with suppress(ProcessLookupError):
            os.kill(rank.pid, DUMP_SIGNAL)
            if rank.stopped:
                os.kill(rank.pid, signal.SIGCONT)
        until = time.monotonic() + DUMP_SECONDS
        while True:
            size = file.stat().st_size
            time.sleep(0.05)
            if size > before and size == file.stat().st_size:  # it has written all of it
                return main_stack(file.read_bytes()[before:].decode(errors="replace"), rank.pulse.thread)
            if time.monotonic() > until:
                return None


def _kill(pid: int) -> None:
    """Ends a rank and what it has started."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
