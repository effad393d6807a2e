"""Which of several failing ranks tells why a job failed: the first that failed by itself, and not for its peers.

When one rank ends, the others lose their connections to it, mostly before it has said its own word. So each rank that
fails leaves a note beside its heartbeat, and the process that started them chooses.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from zoetrope.infra.errors import EXIT_RETRYABLE
from zoetrope.infra.signals import EXIT_TERMINATED

_KILLED = 128
_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
"""Of this container (cgroup v2), else of the whole machine."""


@dataclass(frozen=True)
class Failure:
    """Why one rank failed.

    Attributes:
        rank: its global number; -1 for what was seen from outside.
        at: seconds of the machine's monotonic clock, the same for all processes.
        headline: one line for a person.
        hint: the next step; empty where the end of the log says it best.
        exit_code: of the rank, and of the job.
        own: whether it failed by itself; otherwise because others did, or because it was asked to end.
        restart: whether the same job is likely to get on when it is started again at once, from its last state.
    """

    rank: int
    at: float
    headline: str
    hint: str
    exit_code: int
    own: bool
    restart: bool = False

    @property
    def retryable(self) -> bool:
        """Whether the same job may succeed without a change."""
        return self.exit_code in (EXIT_RETRYABLE, EXIT_TERMINATED)


def leave_note(folder: Path | None, failure: Failure) -> None:
    """Writes the failure for whoever started this rank; nothing where nobody did, or where the disk is full.

    Args:
        folder: of the heartbeats.
        failure: of this rank.
    """
    if folder is None:
        return
    path = folder / f"rank-{failure.rank}.failure"
    try:
        path.write_text(json.dumps(asdict(failure)))
    except OSError as error:  # the rank's log has it as well
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def read_notes(folder: Path) -> list[Failure]:
    """What the ranks of this node have left, the first failure first."""
    notes = []
    for path in sorted(folder.glob("rank-*.failure")):
        text = path.read_text()
        if text.endswith("}"):  # not of a rank that was killed while it wrote
            notes.append(Failure(**json.loads(text)))
    return sorted(notes, key=lambda failure: failure.at)


def first_cause(notes: Sequence[Failure], codes: Mapping[int, int], out_of_memory: bool | None = None) -> Failure:
    """The failure that tells why a job failed.

    Args:
        notes: of `read_notes`, and what a supervisor has seen.
        codes: global rank -> exit code of the ranks that had failed when the first failure was noticed; negative for
            a signal.
        out_of_memory: whether the system has ended a process for lack of memory meanwhile; None where it does not say.
    """
    own = [note for note in notes if note.own]
    if own:
        return min(own, key=lambda note: note.at)
    now = time.monotonic()
    noted = {note.rank for note in notes}
    for rank, code in sorted(codes.items()):
        if code < 0 and -code != signal.SIGTERM:  # torchrun ends the peers of a failed rank with SIGTERM
            return _killed(rank, code, now, out_of_memory)
    for rank, code in sorted(codes.items()):
        if code not in (0, EXIT_RETRYABLE, EXIT_TERMINATED, -signal.SIGTERM) and rank not in noted:
            status = code if code > 0 else _KILLED - code
            return Failure(rank, now, f"rank {rank} failed with exit status {code}", "", status, own=True)
    if notes:
        return min(notes, key=lambda note: note.at)
    terminated = any(code in (EXIT_TERMINATED, -signal.SIGTERM) for code in codes.values())
    status = EXIT_TERMINATED if terminated else next((code for code in codes.values() if code), 1)
    return Failure(-1, now, f"the ranks ended with exit status {dict(codes)}", "", status, own=False)


def _killed(rank: int, code: int, at: float, out_of_memory: bool | None) -> Failure:
    name = signal.Signals(-code).name
    headline = f"rank {rank} was killed by {name}"
    if -code != signal.SIGKILL:  # a crash, of a library most likely
        return Failure(rank, at, headline, "", _KILLED - code, own=True)
    if out_of_memory is False:
        hint = "the system did not lack memory, so it was ended from outside; run it again, it goes on from its state"
        return Failure(rank, at, headline, hint, EXIT_RETRYABLE, own=True, restart=True)
    headline += ": the memory was full" if out_of_memory else " (out of memory?)"
    hint = "give the step more memory in the recipe's `resources:`, or a smaller batch"
    return Failure(rank, at, headline, hint, _KILLED - code, own=True)


def oom_kills(places: Sequence[Path] = _EVENTS) -> int | None:
    """Processes that the system has ended for lack of memory since it started; None where it does not say."""
    events = next((place for place in places if os.access(place, os.R_OK)), None)
    if events is None:
        return None
    counts = dict(line.split() for line in events.read_text().splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None
