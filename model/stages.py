"""The training stages and autoencoder trainings that come with the model, as data in `model/configs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from zoetrope.model.checkpoint import Config, make_config
from zoetrope.model.parallel.config import CheckpointedBlocks, ParallelConfig
from zoetrope.model.training.config import (
    AdversarialConfig,
    AutoencoderTrainingConfig,
    GuardConfig,
    LossesConfig,
    OptimizerConfig,
    PerceptualConfig,
    StageConfig,
)
from zoetrope.model.training.retention import Retention

__all__ = [
    "StageConfig",
    "autoencoder_training",
    "autoencoder_training_names",
    "load_stage",
    "stage_config",
    "stage_names",
]

CONFIGS = Path(__file__).parent / "configs"
AUTOENCODER = "_autoencoder"  # ends the names of autoencoder trainings; all others are stages


def stage_names() -> list[str]:
    """Names of the stages in `model/configs`, sorted."""
    return [name for name in _names() if not name.endswith(AUTOENCODER)]


def autoencoder_training_names() -> list[str]:
    """Names of the autoencoder trainings in `model/configs`, sorted."""
    return [name for name in _names() if name.endswith(AUTOENCODER)]


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
    return _with_optimizer(StageConfig, values)


def autoencoder_training(values: Mapping[str, Any] | str) -> AutoencoderTrainingConfig:
    """A training of the autoencoder from its name or from plain data (the inverse of `dataclasses.asdict`).

    Raises:
        ValueError: unknown name or key, or a value outside its range.
    """
    if isinstance(values, str):
        return autoencoder_training(_values(values, autoencoder_training_names(), "autoencoder training"))
    losses = dict(values.get("losses", {}))
    if isinstance(losses.get("perceptual"), Mapping):
        losses["perceptual"] = make_config(PerceptualConfig, losses["perceptual"])
    if isinstance(losses.get("adversarial"), Mapping):
        losses["adversarial"] = _with_optimizer(AdversarialConfig, losses["adversarial"])
    return _with_optimizer(AutoencoderTrainingConfig, {**values, "losses": make_config(LossesConfig, losses)})


def _names() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _with_optimizer(kind: type[Config], values: Mapping[str, Any]) -> Config:
    inner: dict[str, Any] = {}
    if "optimizer" in values:
        inner["optimizer"] = make_config(OptimizerConfig, values["optimizer"])
    if "parallel" in values:
        inner["parallel"] = _parallel(values["parallel"])
    for name, part in (("guards", GuardConfig), ("retention", Retention)):
        if name in values:
            inner[name] = make_config(part, values[name])
    return make_config(kind, {**values, **inner})


def _parallel(values: Mapping[str, Any]) -> ParallelConfig:
    kept = values.get("checkpointing")
    blocks = {"checkpointing": make_config(CheckpointedBlocks, kept)} if isinstance(kept, Mapping) else {}
    return make_config(ParallelConfig, {**values, **blocks})


def _read(name: str) -> StageConfig:
    return stage_config(_values(name, stage_names(), "stage"))


def _values(name: str, known: list[str], what: str) -> Mapping[str, Any]:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {what} {name!r}; {hint}there are {', '.join(known)}")
    values: Mapping[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    return values
