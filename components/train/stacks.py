"""Reads the stacks that `faulthandler` writes: where a rank is, and whether it waits there for other ranks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)[^\n]*:\n", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)
WAITING_FOLDERS = ("/torch/distributed/",)
"""A rank whose innermost Python frame lies there is in a collective."""
WAITING_FUNCTIONS = ("_engine_run_backward",)
"""The backward pass, in which DistributedDataParallel and FSDP wait for the sums of gradients."""


@dataclass(frozen=True)
class Stack:
    """The stack of a rank's main thread.

    Attributes:
        text: as `faulthandler` wrote it, the innermost frame first.
        place: the innermost frame, and the innermost one outside PyTorch and Python that led there.
        waits: whether it waits for other ranks.
    """

    text: str
    place: str
    waits: bool


def main_stack(dump: str, thread: int) -> Stack | None:
    """The stack of one thread in what `faulthandler` wrote; None where it is not (wholly) there.

    Args:
        dump: one dump of all threads.
        thread: identity of the thread, as `threading.get_ident` gives it.
    """
    headers = list(_THREAD.finditer(dump))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        # pthread identities are pointers, written with leading zeros
        if int(header["ident"], 16) != thread:
            continue
        text = dump[header.end() : following.start() if following else len(dump)]
        frames = list(_FRAME.finditer(text))
        if not frames or not text.endswith("\n"):
            return None
        first = frames[0]
        waits = any(folder in first["file"] for folder in WAITING_FOLDERS) or first["name"] in WAITING_FUNCTIONS
        ours = next((frame for frame in frames if not _of_library(frame["file"])), first)
        place = _named(first) if ours is first else f"{_named(first)}, called in {_named(ours)}"
        return Stack(text.rstrip("\n"), place, waits)
    return None


def _of_library(file: str) -> bool:
    return "/site-packages/" in file or "/lib/python" in file or file.startswith("<")


def _named(frame: re.Match[str]) -> str:
    path = "/".join(PurePath(frame["file"]).parts[-3:])
    return f"{frame['name']} ({path}:{frame['line']})"
