"""How the velocities of one step become one: text guidance, image guidance, and how the latter varies.

Shapes: B videos, C latent channels, T, H, W latent frames, height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoetrope.model.sampling.config import SamplerConfig

if TYPE_CHECKING:
    import torch


def combine(velocities: Sequence[torch.Tensor], text_weight: float, image_weight: torch.Tensor | float) -> torch.Tensor:
    """Guided velocity of one step: C + image_weight (B - C) + text_weight (A - B), paper section 5.2.

    Args:
        velocities: of one, two or three forwards, each [B, C, T, H, W], in this order:
            A with text and given frames; B with the negative text and given frames; C with the negative text alone.
            Without given frames B and C are the same and stand once; without text guidance A stands alone.
        text_weight: 1 is no guidance.
        image_weight: likewise; a tensor has to broadcast to a velocity.
    """
    both, *rest = velocities
    if not rest:
        return both
    if len(rest) == 1:
        return rest[0] + text_weight * (both - rest[0])
    image_only, neither = rest
    return neither + image_weight * (image_only - neither) + text_weight * (both - image_only)


def image_weights(config: SamplerConfig, index: int, kinds: Sequence[str], frames: int) -> torch.Tensor:
    """Image guidance of a step for each video and latent frame.

    Dynamic guidance (image to video alone): over the frames it grows linearly from 1 to u, and u falls linearly over
    the steps from `image_guidance` to 1 (paper, figure 8). A step that oscillation keeps quiet has weight 1.

    Args:
        config: the settings.
        index: of the step, from 0.
        kinds: kind of condition of each video.
        frames: latent frames T.

    Returns:
        float32 [B, 1, T, 1, 1].
    """
    import torch

    _, weight = config.guidance(index)
    constant = torch.full((frames,), weight)
    growing = constant
    if config.dynamic_image_guidance and weight > 1:
        last = torch.linspace(weight, 1, config.steps + 1)[index].item()
        growing = torch.linspace(1, last, frames)
    rows = [growing if kind.startswith("i2v_") else constant for kind in kinds]
    return torch.stack(rows).view(len(kinds), 1, frames, 1, 1)
