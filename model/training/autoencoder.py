"""Training of the video autoencoder on decoded clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.training.config import AutoencoderTrainingConfig
from zoetrope.model.training.loop import MetricSink, Resume, TrainingResult, train
from zoetrope.model.training.workers import Workers, batch_indices, generator_for


class VideoClips(Protocol):
    """Decoded clips of one shape."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def batch(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Clips by position: uint8 [B, T, H, W, 3]."""
        ...


def to_pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, T, H, W, 3] -> float32 [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def train_autoencoder(
    model: VideoDCAE,
    clips: VideoClips,
    config: AutoencoderTrainingConfig,
    workers: Workers,
    sink: MetricSink,
    resume: Resume | None = None,
) -> TrainingResult:
    """Trains an autoencoder in place to reconstruct clips (mean absolute error).

    In a share of the steps all workers see one random frame of each clip instead, so that single images, which
    condition image-to-video generation, have latents as well.

    Args:
        model: initialised.
        clips: all workers have the same.
        config: the loop.
        workers: who takes part.
        sink: gets the metrics.
        resume: where to keep state.
    """

    def loss(parallel: nn.Module, step: int) -> Tensor:
        indices = batch_indices(len(clips), config.batch_size, step, config.seed, workers)
        frames = clips.batch(indices)
        # drawn alike on all workers: a step of images is much shorter, and the slowest worker sets the pace
        alike = generator_for(config.seed, step, 0)
        if torch.rand((), generator=alike).item() < config.image_probability:
            chosen = int(torch.randint(frames.shape[1], (), generator=alike))
            frames = frames[:, chosen : chosen + 1]
        video = to_pixels(frames)
        reconstruction: Tensor = parallel(video)
        return (reconstruction - video).abs().mean()

    return train(model, loss, config, config.optimizer, workers, sink, resume)


def latent_statistics(model: VideoDCAE, clips: VideoClips, count: int = 256) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over the first `count` clips, for unit variance.

    Returns:
        (means [C], standard deviations [C]), summed in float64 in the order of the clips.
    """
    latents = []
    with torch.inference_mode():
        for start in range(0, min(count, len(clips)), 8):
            rows = range(start, min(start + 8, count, len(clips)))
            latents.append(model.encode(to_pixels(clips.batch(rows))).double())
    stacked = torch.cat(latents)
    std, mean = torch.std_mean(stacked, dim=(0, 2, 3, 4), correction=0)
    return mean.tolist(), std.clamp_min(1e-6).tolist()
