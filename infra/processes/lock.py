"""One run at a time per store directory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType


class RunLock:
    """Context manager that holds `DIR/lock`; a second holder is told who the first is."""

    def __init__(self, state_directory: Path, command: str) -> None:
        raise NotImplementedError

    def __enter__(self) -> RunLock:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
