"""Training of the video model by flow matching on latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from zoetrope.model.conditions import condition_latents, draw_conditions, fitting_weights, given_frames
from zoetrope.model.flow import FlowConfig, flow_loss, model_time, noisy_sample_and_target, sample_time
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, patchify, text_ids
from zoetrope.model.training.config import StageConfig
from zoetrope.model.training.loop import MetricSink, Resume, TrainingResult, train
from zoetrope.model.training.process_group import ProcessGroup, batch_indices, generator_for


class TrainingBatch(Protocol):
    """Samples of one bucket; see `data.samples.LatentBatch`."""

    @property
    def latent(self) -> Tensor:
        """[B, C, T, H, W]."""
        ...

    @property
    def references(self) -> Mapping[str, Tensor]:
        """Name -> [B, C, L, H, W], see `conditions`."""
        ...

    @property
    def t5(self) -> Tensor:
        """[B, L, D]."""
        ...

    @property
    def t5_length(self) -> Tensor:
        """[B]."""
        ...

    @property
    def clip(self) -> Tensor:
        """[B, D']."""
        ...


class TrainingData(Protocol):
    """Latent samples; see `data.loader.LatentDataset`."""

    null_t5: Tensor
    null_clip: Tensor

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batch(self, indices: Sequence[int]) -> TrainingBatch:
        """Samples by position."""
        ...


def drop_text(
    batch: TrainingBatch, null_t5: Tensor, null_clip: Tensor, probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Replaces T5 and, independently, CLIP embeddings by those of the empty text.

    Returns:
        (t5 [B, L, D], t5_length [B], clip [B, D']).
    """
    count = len(batch.t5)
    t5, length, clip = batch.t5.clone(), batch.t5_length.clone(), batch.clip.clone()
    without_t5, without_clip = torch.rand(2, count, generator=generator) < probability
    if t5.shape[1] < len(null_t5):
        t5 = nn.functional.pad(t5, (0, 0, 0, len(null_t5) - t5.shape[1]))
    t5[without_t5] = nn.functional.pad(null_t5, (0, 0, 0, t5.shape[1] - len(null_t5))).to(t5.dtype)
    length[without_t5] = len(null_t5)
    clip[without_clip] = null_clip.to(clip.dtype)
    return t5, length, clip


class FlowObjective:
    """The loss of one worker in one step; all randomness comes from (seed, step, rank)."""

    def __init__(
        self, config: MMDiTConfig, data: TrainingData, stage: StageConfig, flow: FlowConfig, workers: ProcessGroup
    ) -> None:
        self.config, self.data, self.stage, self.flow, self.workers = config, data, stage, flow, workers

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        """Mean squared error of the predicted velocity, float32."""
        stage, config = self.stage, self.config
        indices = batch_indices(len(self.data), stage.batch_size, step, stage.seed, self.workers)
        batch = self.data.batch(indices)
        generator = generator_for(stage.seed, step, self.workers.rank)
        latent = batch.latent.float()
        count, channels, frames, height, width = latent.shape
        time = sample_time(self.flow, count, (channels, frames, height, width), config.patch_size, generator)
        noise = torch.randn(latent.shape, generator=generator)
        t5, length, clip = drop_text(batch, self.data.null_t5, self.data.null_clip, stage.text_dropout, generator)
        condition = None
        if config.cond_embed:
            references = {name: reference.float() for name, reference in batch.references.items()}
            kinds = draw_conditions(fitting_weights(stage.conditions, references, frames), count, generator)
            condition = condition_latents(kinds, references, frames)
        noisy, target = noisy_sample_and_target(self.flow, latent, noise, time)
        return self._loss(model, config.patch_size, noisy, target, time, (t5, length, clip), condition)

    def _loss(
        self,
        model: nn.Module,
        patch: int,
        noisy: Tensor,
        target: Tensor,
        time: Tensor,
        text: tuple[Tensor, Tensor, Tensor],
        condition: Tensor | None,
    ) -> Tensor:
        t5, length, clip = text
        count, _, frames, height, width = noisy.shape
        device = next(model.parameters()).device
        dtype = getattr(torch, self.stage.precision)
        with nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype):
            prediction = model(
                patchify(noisy, patch).to(device),
                image_ids(count, frames, height, width, patch).to(device),
                t5.float().to(device),
                text_ids(count, t5.shape[1]).to(device),
                model_time(self.flow, time, dtype).to(device),
                clip.float().to(device),
                cond=None if condition is None else patchify(condition, patch).to(device),
                txt_len=None if bool((length == t5.shape[1]).all()) else length.to(device),
            )
        goal = patchify(target, patch).to(device)
        mean = self.stage.exclude_given_frames
        if condition is None or not mean:
            return flow_loss(prediction, goal)
        tokens = height * width // patch**2  # of a frame
        mask = ~given_frames(condition).repeat_interleave(tokens, dim=1)[..., None].to(device)
        return flow_loss(prediction, goal, mask, mean)


def train_diffusion(
    model: MMDiT,
    data: TrainingData,
    stage: StageConfig,
    flow: FlowConfig,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
) -> TrainingResult:
    """Trains one stage of the video model in place.

    Args:
        model: with its first weights, built with `cond_embed = stage.takes_images`.
        data: latents and text of one bucket; all workers have the same.
        stage: the loop, its conditions and its optimizer.
        flow: the flow.
        workers: who takes part.
        sink: gets the metrics.
        resume: where to keep state.

    Raises:
        ValueError: the model and the stage disagree on image conditions, or training diverged.
    """
    if model.config.cond_embed != stage.takes_images:
        raise ValueError("the stage's conditions and the model's cond_embed disagree")
    model.choose_attention(stage.attention, getattr(torch, stage.precision))
    loss = FlowObjective(model.config, data, stage, flow, workers)
    return train(model, loss, stage, stage.optimizer, workers, sink, resume)
