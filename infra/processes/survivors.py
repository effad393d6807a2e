"""Finds and ends the processes of a run, also those that left its session and outlived it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """A process that was ended: its pid, its command line and whether it had to be killed."""

    pid: int
    command: str
    killed: bool


def mark_environment(state_directory: Path, token: str = "") -> str:
    """Gives this process and all its later children a run token, records it, and returns it."""
    raise NotImplementedError


def end_survivors(state_directory: Path, log: Callable[[str], None]) -> list[Ended]:
    """Ends what earlier runs on this state directory left running."""
    raise NotImplementedError


def end_group(token: str, log: Callable[[str], None] | None = None) -> list[Ended]:
    """Ends all descendants of this process and all other carriers of `token` (Ctrl-C)."""
    raise NotImplementedError
