"""The end of a job's log, as far as it says why the job failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

TAIL_LINES = 20
# torchrun marks its workers' lines `[default0]:` or `[0]:`; its own summary comes after them and hides the cause.
_WORKER_LINE = re.compile(r"\[[a-z_]*\d+\]:")
# The last line of a traceback, behind the marks of torchrun (`[1]:`) and of PyTorch (`[rank1]:`).
_CAUSE = re.compile(r"(?:\[[a-z_]*\d+\]:\s?)*(?P<cause>[A-Za-z_][\w.]*(?:Error|Exception): .+)")
# torchrun itself ends with 1; this is how it tells what its first failed worker ended with.
_WORKER_EXIT = re.compile(r"^\s*exitcode\s*:\s*(?P<code>-?\d+)")


def relevant_lines(lines: Sequence[str]) -> list[str]:
    """The last lines; of a torchrun log the last lines of its workers."""
    kept = [line.rstrip() for line in lines if line.strip()]
    workers = [line for line in kept if _WORKER_LINE.match(line) and not line.endswith("]:")]
    return (workers or kept)[-TAIL_LINES:]


def cause(lines: Sequence[str]) -> str:
    """`: ` and the first exception that the lines show: when one rank fails, the others only lose their peer."""
    found = next((match for line in lines if (match := _CAUSE.match(line))), None)
    return f": {found['cause'][:200]}" if found else ""


def worker_exit_code(lines: Sequence[str]) -> int | None:
    """What torchrun's first failed worker ended with (negative: the signal); None where the log does not say."""
    summary = [match for line in lines if (match := _WORKER_EXIT.match(line))]
    return int(summary[-1]["code"]) if summary else None


def quoted(lines: Sequence[str]) -> str:
    """The lines as part of a hint."""
    return "the end of its log:\n     " + "\n     ".join(lines or ["(it wrote nothing)"])
