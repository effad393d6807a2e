"""The user's weights of LPIPS: found before the run, and in the store for the workers, wherever these run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zoetrope.components.train.config import AutoencoderStepConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import Store, local_copy, put_file_content
from zoetrope.model.training.config import AutoencoderTrainingConfig, PerceptualConfig

PLACE = "autoencoder.training.losses.perceptual"


def weights_file(training: AutoencoderTrainingConfig) -> Path | None:
    """The file that the recipe names; None where it has no perceptual loss.

    Raises:
        ZoetropeError: no file is named, or it is not there.
    """
    perceptual = training.losses.perceptual
    if not isinstance(perceptual, PerceptualConfig):
        return None
    path = Path(perceptual.weights)
    if not perceptual.weights or not path.is_file():
        found = f"there is no file {perceptual.weights}" if perceptual.weights else "it names no file"
        raise ZoetropeError(
            f"{PLACE}.weights: {found}",
            f"give LPIPS weights as safetensors (model/README.md tells how to make the file), or set {PLACE} to none",
        )
    return path


def with_stored_weights(config: AutoencoderStepConfig, store: Store) -> AutoencoderStepConfig:
    """Puts the weights into the store; the config then holds their reference, and so their digest, for the path."""
    path = weights_file(config.training)
    if path is None:
        return config
    reference = put_file_content(store, path)
    return config.model_copy(update={"training": _with_weights(config.training, str(reference))})


def with_local_weights(
    training: AutoencoderTrainingConfig, context: StepContext, rank: int
) -> AutoencoderTrainingConfig:
    """The inverse, for one worker: a local path for the reference."""
    perceptual = training.losses.perceptual
    if not isinstance(perceptual, PerceptualConfig):
        return training
    path = local_copy(context.store, perceptual.weights, context.work / f"rank-{rank}")
    return _with_weights(training, str(path))


def _with_weights(training: AutoencoderTrainingConfig, weights: str) -> AutoencoderTrainingConfig:
    losses = training.losses
    assert isinstance(losses.perceptual, PerceptualConfig)
    return replace(training, losses=replace(losses, perceptual=replace(losses.perceptual, weights=weights)))
