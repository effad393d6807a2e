"""Settings of the training steps."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from zoetrope.infra.config import StrictModel
from zoetrope.model.autoencoders import DCAEConfig, HunyuanVideoConfig, Kind, TilingConfig
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.parallel.degrees import resolve_degrees
from zoetrope.model.training.config import AutoencoderTrainingConfig, OptimizerConfig, StageConfig

WORKERS = 2
"""Processes of a training job on a CPU, each with one thread: part of the result, since sums depend on it."""


def _require_divisible(batch_size: int, workers: int) -> None:
    if batch_size % workers:
        raise ValueError(f"batch_size {batch_size} has to be a multiple of the {workers} workers")


class AutoencoderStepConfig(StrictModel):
    """Configuration of the step `autoencoder`; the defaults are the small recipe's.

    Attributes:
        kind: architecture; only the Video DC-AE is trained here, others need `pretrained`.
        pretrained: safetensors file with released weights, taken as they are instead of training; empty trains.
        architecture: of the Video DC-AE.
        hunyuan_video: of HunyuanVideo's autoencoder.
        tiling: tiles that encode and generate cut videos into; none by default.
        training: the loop.
        height: pixels that clips are scaled to.
        width: likewise.
        frames: frames taken of each clip.
        fps: at this rate.
        clips: at most this many clips, the first by identity.
        workers: training processes with one thread each.
    """

    kind: Kind = "dc_ae"
    pretrained: str = ""
    architecture: DCAEConfig = DCAEConfig.nano()
    hunyuan_video: HunyuanVideoConfig = HunyuanVideoConfig.open_sora_v2()
    tiling: TilingConfig | None = None
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
        if self.kind != "dc_ae" and not self.pretrained:
            raise ValueError(f"given `pretrained`, a file of weights: kind {self.kind} is not trained here")
        if self.tiling is not None:
            self.chosen.check_tiling(self.tiling)
        if self.sees_clips:
            self.chosen.latent_shape(self.frames, self.height, self.width)
        return self

    @property
    def chosen(self) -> DCAEConfig | HunyuanVideoConfig:
        """The architecture of `kind`."""
        return self.architecture if self.kind == "dc_ae" else self.hunyuan_video

    @property
    def sees_clips(self) -> bool:
        """Whether the step decodes clips: to train, or to measure the latents of released weights."""
        return not self.pretrained or self.chosen.latent_statistics is None


class ModelConfig(StrictModel):
    """The video model, the same in all stages; the defaults are the small recipe's.

    Attributes:
        mmdit: architecture; each stage sets `cond_embed` by its conditions.
        flow: the flow.
        pretrained: file of first weights for the first stage (.safetensors of FLUX.1 in either layout, or of
            Open-Sora 2.0); empty starts from random weights.
        workers: training processes with one thread each; results depend on their number.
    """

    mmdit: MMDiTConfig = MMDiTConfig.nano()
    flow: FlowConfig = FlowConfig()
    pretrained: str = ""
    workers: int = Field(default=WORKERS, ge=1)


class TrainStageConfig(ModelConfig):
    """Configuration of one training stage.

    Attributes:
        name: of the stage in the pipeline, e.g. `stage_1`.
        stage: the loop and its data.
    """

    name: str = Field(default="stage_1", min_length=1)
    stage: StageConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        mesh = resolve_degrees(self.stage.parallel, self.workers, heads=self.mmdit.num_heads)
        if self.stage.batch_size % mesh.data:
            raise ValueError(
                f"batch_size {self.stage.batch_size} has to be a multiple of the {mesh.data} data-parallel ranks"
            )
        return self
