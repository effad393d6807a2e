"""The bucket tables of Open-Sora 2.0's released training configs, as data in `model/configs/buckets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).parents[1] / "configs" / "buckets" / "open_sora_2.yaml"


@dataclass(frozen=True)
class Bucket:
    """Clips of one length at one resolution.

    Attributes:
        resolution: nominal, e.g. `256px`.
        frames: frames of a clip.
        probability: that a clip of this length is taken at this resolution, else the next lower one is tried.
        batch_size: clips per GPU.
    """

    resolution: str
    frames: int
    probability: float
    batch_size: int


def bucket_tables() -> list[str]:
    """Names of the tables: the released configs."""
    return sorted(_tables())


def load_buckets(name: str) -> list[Bucket]:
    """The buckets of a table, by resolution as in the file and then by length.

    Args:
        name: of `bucket_tables`, e.g. `stage1`.

    Raises:
        ValueError: there is no such table; the message names the nearest.
    """
    tables = _tables()
    if name not in tables:
        near = get_close_matches(name, tables, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown bucket table {name!r}; {hint}there are {', '.join(sorted(tables))}")
    return [
        Bucket(resolution, frames, float(entry["probability"]), int(part["batch_size"]))
        for resolution, entry in tables[name].items()
        for part in entry["batches"]
        for frames in _lengths(*part["frames"])
    ]


def _lengths(first: int, last: int, step: int) -> range:
    return range(first, last + 1, step)


@lru_cache(maxsize=1)
def _tables() -> Mapping[str, Any]:
    tables: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tables
