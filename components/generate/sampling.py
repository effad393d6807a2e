"""Prompts to pixels with a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.models import VideoModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.model.conditions import HEAD
from zoetrope.model.sampler import ImageCondition, SamplerConfig, TextCondition, sample_latents

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from numpy import uint8

    from zoetrope.model.autoencoders import AutoencoderConfig
    from zoetrope.model.mmdit.model import MMDiT


@dataclass(frozen=True)
class VideoShape:
    """Size of the videos.

    Attributes:
        height: pixels.
        width: pixels.
        frames: frames.
        fps: frames per second.
        latent: (C, T', H', W') of the latent.
    """

    height: int
    width: int
    frames: int
    fps: float
    latent: tuple[int, int, int, int]

    @classmethod
    def of_bucket(cls, bucket: Mapping[str, Any]) -> VideoShape:
        """The shape of a dataset bucket."""
        channels, time, height, width = bucket["latent"]
        return cls(bucket["height"], bucket["width"], bucket["frames"], bucket["fps"], (channels, time, height, width))

    def with_frames(self, frames: int, autoencoder: AutoencoderConfig) -> VideoShape:
        """The same size with another number of frames.

        Raises:
            ZoetropeError: the autoencoder does not take it; the message names the nearest that it does.
        """
        try:
            latent = autoencoder.latent_shape(frames, self.height, self.width)
        except ValueError as error:
            raise ZoetropeError(str(error), f"take {autoencoder.nearest_frames(frames)} frames") from error
        return replace(self, frames=frames, latent=latent)


def embed_prompts(model: VideoModel, prompts: Sequence[str]) -> TextCondition:
    """Embeddings of prompts; equal prompts are embedded once."""
    distinct = sorted(set(prompts))
    t5, clip = model.text.encode_text(distinct)
    null_t5, null_clip = model.text.null()
    rows = [distinct.index(prompt) for prompt in prompts]
    return TextCondition([t5[row] for row in rows], clip[rows], null_t5, null_clip)


def head_condition(head: torch.Tensor) -> ImageCondition:
    """Condition on the first frames, latents [B, C, 1, H', W']."""
    return ImageCondition([HEAD] * len(head), head, head)


def sample_videos(
    model: VideoModel,
    transformer: MMDiT,
    sampler: SamplerConfig,
    shape: VideoShape,
    text: TextCondition,
    seeds: Sequence[int],
    *,
    image: ImageCondition | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[uint8]:
    """Samples and decodes one video for each prompt.

    Args:
        model: the loaded checkpoint: flow, autoencoder.
        transformer: the model's own, or an untrained one.
        sampler: settings.
        shape: size of the videos.
        text: the prompts, embedded.
        seeds: one for each prompt.
        image: given first frames.
        on_batch: told the number of finished videos.

    Returns:
        uint8 [B, T, H, W, 3].

    Raises:
        ZoetropeError: the checkpoint takes no images.
    """
    import numpy as np

    try:
        latents = sample_latents(
            transformer, sampler, model.flow, text, shape.latent, seeds, image=image, on_batch=on_batch
        )
    except ValueError as error:
        raise ZoetropeError(f"generate: {error}", "check the settings of generate.sampler") from error
    size = sampler.batch_size
    decoded = [model.decode(latents[start : start + size]) for start in range(0, len(latents), size)]
    return np.concatenate(decoded)
