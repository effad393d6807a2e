"""A step's context, and small videos to put into folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoetrope.components.ingest.footage.film import write_film
from zoetrope.infra.context import StepContext
from zoetrope.infra.store import open_store


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    (tmp_path / "work").mkdir()
    return StepContext("ingest", open_store(tmp_path / "store"), tmp_path / "work", tmp_path / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "videos"
    path.mkdir()
    return path


@pytest.fixture
def make_video() -> Callable[..., Path]:
    def make(path: Path, seed: int = 0, seconds: float = 2.5, fps: int = 24, **options: bool) -> Path:
        rng = np.random.default_rng(seed)
        picture = rng.integers(0, 255, (48, 48, 3), np.uint8).repeat(2, 0).repeat(2, 1)
        frames = (np.roll(picture, 2 * number, 1) for number in range(round(seconds * fps)))
        write_film(path, frames, fps, 96, **options)
        return path

    return make
