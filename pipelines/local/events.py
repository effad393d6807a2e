"""Reads what the steps of a run say about themselves, while they say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class EventReader:
    """Follows `events.jsonl`: each call returns the complete lines that are new."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "events.jsonl"
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """Events since the last call, oldest first."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [json.loads(line) for line in complete.splitlines()]
