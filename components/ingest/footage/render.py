"""Renders sample footage into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoetrope.components.ingest.footage.config import FootageConfig


@dataclass(frozen=True)
class FootageSummary:
    """What was rendered.

    Attributes:
        files: video files written, duplicates among them.
        films: distinct films.
        shots: scenes in the distinct films.
        seconds: playing time of all files.
        bytes: size of all video files.
        defects: how many defects of each kind the truth file lists.
    """

    files: int
    films: int
    shots: int
    seconds: float
    bytes: int
    defects: dict[str, int]


def render_footage(
    directory: Path, config: FootageConfig, progress: Callable[[str, float], None] | None = None
) -> FootageSummary:
    """Renders films, `catalogue.parquet`, `truth.json` and `prompts.json` into `directory`."""
    raise NotImplementedError
