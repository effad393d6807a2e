"""Prompts to pixels with a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.model.conditions import HEAD
from zoetrope.model.data.aspects import nominal_area, picture_size
from zoetrope.model.sampling import SamplerConfig, TextCondition, VisualCondition, sample_latents

if TYPE_CHECKING:
    import torch

    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.video_model import Frames, VideoModel


@dataclass(frozen=True)
class VideoShape:
    """Size of the videos.

    Attributes:
        height: pixels.
        width: pixels.
        frames: frames.
        fps: frames per second.
    """

    height: int
    width: int
    frames: int
    fps: float

    @classmethod
    def of_bucket(cls, bucket: Mapping[str, Any]) -> VideoShape:
        """The shape of a dataset bucket."""
        return cls(bucket["height"], bucket["width"], bucket["frames"], bucket["fps"])

    def changed(self, frames: int, resolution: str, aspect: str, grid: int) -> VideoShape:
        """Another shape at the same rate; what is 0 or empty stays.

        Args:
            frames: number of frames.
            resolution: nominal, e.g. `256px`.
            aspect: width to height, e.g. `16:9`.
            grid: pixels that height and width are multiples of.

        Raises:
            ZoetropeError: a resolution or an aspect that is none.
        """
        height, width = self.height, self.width
        if resolution or aspect:
            try:
                area = nominal_area(resolution) if resolution else height * width
                height, width = picture_size(area, aspect or f"{width}:{height}", grid, adjust=False)
            except ValueError as error:
                raise ZoetropeError(f"generate: {error}", "e.g. --resolution 256px --aspect 16:9") from error
        return VideoShape(height, width, frames or self.frames, self.fps)

    def latent(self, model: VideoModel) -> tuple[int, int, int, int]:
        """(C, T', H', W') of the latent.

        Raises:
            ZoetropeError: the model's autoencoder refuses the shape.
        """
        try:
            return model.latent_shape(self.frames, self.height, self.width)
        except ValueError as error:
            raise ZoetropeError(f"generate: {error}", "change --frames, --resolution or --aspect") from error


def head_condition(head: torch.Tensor) -> VisualCondition:
    """Condition on the first frames, latents [B, C, 1, H', W']."""
    return VisualCondition([HEAD] * len(head), {"head": head})


def sample_videos(
    model: VideoModel,
    transformer: MMDiT,
    sampler: SamplerConfig,
    shape: VideoShape,
    text: TextCondition,
    seeds: Sequence[int],
    *,
    visual: VisualCondition | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Frames:
    """Samples and decodes one video for each prompt.

    Args:
        model: the loaded checkpoint: flow, autoencoder.
        transformer: the model's own, or an untrained one.
        sampler: settings.
        shape: size of the videos.
        text: the prompts, embedded.
        seeds: one for each prompt.
        visual: given frames.
        on_step: called with (steps done, steps in all).

    Returns:
        uint8 [B, T, H, W, 3].

    Raises:
        ZoetropeError: the checkpoint takes no images, or cannot make this shape.
    """
    import numpy as np

    latent_shape = shape.latent(model)
    try:
        latents = sample_latents(
            transformer, sampler, model.flow, text, latent_shape, seeds, visual=visual, on_step=on_step
        )
    except ValueError as error:
        raise ZoetropeError(f"generate: {error}", "check the settings of generate.sampler") from error
    size = sampler.batch_size
    decoded = [model.decode(latents[start : start + size]) for start in range(0, len(latents), size)]
    return np.concatenate(decoded)
