"""What the training steps can be told."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from zoetrope.infra.config import StrictModel
from zoetrope.model.autoencoders.config import DCAEConfig
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.training.config import AutoencoderTrainingConfig, OptimizerConfig, StageConfig

WORKERS = 2
"""Processes of a training job on a CPU, each with one thread: part of the result, since sums depend on it."""


def _require_divisible(batch_size: int, workers: int) -> None:
    if batch_size % workers:
        raise ValueError(f"batch_size {batch_size} has to be a multiple of the {workers} workers")


class AutoencoderStepConfig(StrictModel):
    """Configuration of the step `autoencoder`; the defaults are the small recipe's.

    Attributes:
        architecture: of the Video DC-AE.
        training: the loop.
        height: pixels that clips are scaled to.
        width: likewise.
        frames: frames taken of each clip.
        fps: at this rate.
        clips: at most this many clips, the first by identity.
        workers: training processes with one thread each.
    """

    architecture: DCAEConfig = DCAEConfig.nano()
    training: AutoencoderTrainingConfig = AutoencoderTrainingConfig(
        steps=600,
        batch_size=4,
        save_every=200,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20, decay="cosine", betas=(0.9, 0.99)),
    )
    height: int = Field(default=48, ge=8)
    width: int = Field(default=48, ge=8)
    frames: int = Field(default=16, ge=1)
    fps: float = Field(default=8.0, gt=0)
    clips: int = Field(default=1000, ge=1)
    workers: int = Field(default=WORKERS, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_divisible(self.training.batch_size, self.workers)
        self.architecture.latent_shape(self.frames, self.height, self.width)
        return self


class ModelConfig(StrictModel):
    """The video model, the same in all stages; the defaults are the small recipe's.

    Attributes:
        mmdit: architecture; each stage sets `cond_embed` by its conditions.
        flow: the flow.
    """

    mmdit: MMDiTConfig = MMDiTConfig.nano()
    flow: FlowConfig = FlowConfig()


class TrainStageConfig(ModelConfig):
    """Configuration of one training stage.

    Attributes:
        name: of the stage in the pipeline, e.g. `stage_1`.
        stage: the loop and its data.
        workers: training processes with one thread each.
    """

    name: str = Field(default="stage_1", min_length=1)
    stage: StageConfig
    workers: int = Field(default=WORKERS, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_divisible(self.stage.batch_size, self.workers)
        return self
