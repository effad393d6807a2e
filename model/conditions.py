"""Image conditions: which frames of the video are given, and how the model sees them.

The condition of a latent video is [mask (1 channel) | reference latents (C channels)] for every latent voxel: mask 1
where a frame is given, 0 elsewhere, reference latents 0 where the mask is 0. Reference frames are encoded by
themselves, so nothing of the rest of the video leaks into them. The noisy latent stays noisy in all frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TEXT_TO_VIDEO = "t2v"
HEAD = "i2v_head"
TAIL = "i2v_tail"
LOOP = "i2v_loop"

# kind -> (first latent frame given, last latent frame given)
GIVEN_FRAMES: dict[str, tuple[bool, bool]] = {
    TEXT_TO_VIDEO: (False, False),
    HEAD: (True, False),
    TAIL: (False, True),
    LOOP: (True, True),
}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError for unknown kinds, negative weights, or weights that sum to nothing."""
    unknown = sorted(set(weights) - set(GIVEN_FRAMES))
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}; there are {', '.join(GIVEN_FRAMES)}")
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) <= 0:
        raise ValueError(f"condition weights have to be positive, not {dict(weights)}")


def draw_conditions(weights: Mapping[str, float], count: int, generator: torch.Generator) -> list[str]:
    """Draws a kind of condition for each of `count` samples with probability proportional to its weight."""
    import torch

    kinds = sorted(weights)
    probabilities = torch.tensor([weights[kind] for kind in kinds], dtype=torch.float32)
    return [kinds[i] for i in torch.multinomial(probabilities, count, replacement=True, generator=generator)]


def condition_latents(
    kinds: Sequence[str],
    head: torch.Tensor,
    tail: torch.Tensor,
    frames: int,
) -> torch.Tensor:
    """Builds the condition channels.

    Args:
        kinds: one of `GIVEN_FRAMES` per sample.
        head: latents of the first frame [B, C, 1, H, W].
        tail: latents of the last frame [B, C, 1, H, W].
        frames: latent frames T; a single latent frame (an image) is never given.

    Returns:
        [B, 1 + C, T, H, W].
    """
    batch, channels, _, height, width = head.shape
    condition = head.new_zeros(batch, 1 + channels, frames, height, width)
    if frames == 1:
        return condition
    for sample, kind in enumerate(kinds):
        first, last = GIVEN_FRAMES[kind]
        if first:
            condition[sample, 0, 0] = 1
            condition[sample, 1:, 0] = head[sample, :, 0]
        if last:
            condition[sample, 0, -1] = 1
            condition[sample, 1:, -1] = tail[sample, :, 0]
    return condition
