"""The training stages that come with the model, as data in `model/configs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from zoetrope.model.checkpoint import make_config
from zoetrope.model.training.config import OptimizerConfig, StageConfig

__all__ = ["StageConfig", "load_stage", "stage_config", "stage_names"]

CONFIGS = Path(__file__).parent / "configs"


def stage_names() -> list[str]:
    """Names of the stages in `model/configs`, sorted."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load_stage(name: str) -> dict[str, Any]:
    """A stage as plain data with every key present, so that single keys can be changed before use.

    Raises:
        ValueError: unknown name, with the nearest one, or unknown keys in the file.
    """
    return asdict(_read(name))


def stage_config(values: Mapping[str, Any] | str) -> StageConfig:
    """A stage from its name or from plain data (the inverse of `dataclasses.asdict`).

    Raises:
        ValueError: unknown name or key, or a value outside its range.
    """
    if isinstance(values, str):
        return _read(values)
    return make_config(StageConfig, {**values, "optimizer": make_config(OptimizerConfig, values["optimizer"])})


def _read(name: str) -> StageConfig:
    if name not in stage_names():
        near = get_close_matches(name, stage_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown stage {name!r}; {hint}there are {', '.join(stage_names())}")
    return stage_config(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))
