"""Text to image to video: an image model draws the first frame, the video model goes on from it (paper, section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoetrope.model.sampling.config import SamplerConfig
from zoetrope.model.sampling.euler import TextCondition, sample_latents

if TYPE_CHECKING:
    from zoetrope.model.video_model import Frames, VideoModel


def first_frames(
    model: VideoModel,
    config: SamplerConfig,
    text: TextCondition,
    height: int,
    width: int,
    seeds: Sequence[int],
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> Frames:
    """Draws one picture per prompt, to be the first frame of a video.

    Args:
        model: a text-to-image model, or a video model, which draws videos of one frame.
        config: how to sample.
        text: the prompts, embedded by this model's encoders.
        height: of the video; the picture is drawn at the nearest smaller size that the image model can do, and
            scaled.
        width: likewise.
        seeds: one per prompt.
        on_step: see `sample_latents`.

    Returns:
        uint8 [B, 1, height, width, 3].

    Raises:
        ValueError: a size below one step of the model's grid, or as in `sample_latents`.
    """
    from zoetrope.model.video_model import fit_picture

    drawn = (height // model.grid * model.grid, width // model.grid * model.grid)
    if not all(drawn):
        raise ValueError(f"a first frame of {height}x{width} pixels is smaller than the image model's {model.grid}")
    shape = model.latent_shape(1, *drawn)
    latents = sample_latents(model.transformer, config, model.flow, text, shape, seeds, on_step=on_step)
    # one by one, so that a picture does not depend on its neighbours
    pictures = [fit_picture(model.decode(latent[None])[0, 0], height, width) for latent in latents]
    return np.stack(pictures)[:, None]
