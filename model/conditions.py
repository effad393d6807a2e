"""Visual conditions: which frames of the video are given, and how the model sees them.

The condition of a latent video is [mask (1 channel) | reference latents (C channels)] for every latent voxel: mask 1
where a frame is given, 0 elsewhere, reference latents 0 where the mask is 0. References are encoded by themselves, so
nothing of the rest of the video leaks into them. The noisy latent stays noisy in all frames. (Open-Sora 2.0, section
5.1, and its released code.)

A reference is named after the end of the video that it comes from and its length: `head` and `tail` are single
frames, `head_short` and `tail_short` 32 frames, `head_long` and `tail_long` 64; a causal autoencoder, whose videos
have 4k + 1 frames, takes one frame more (33 are 9 latent frames, 65 are 17).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

TEXT_TO_VIDEO = "t2v"
HEAD = "i2v_head"
TAIL = "i2v_tail"
LOOP = "i2v_loop"
EXTEND = "v2v_head"

ReferenceLength = Literal["short", "long"]
REFERENCE_FRAMES: dict[str, int] = {"short": 32, "long": 64}  # released code; one more where time is causal


@dataclass(frozen=True)
class Given:
    """What a kind of condition gives.

    Attributes:
        head: name of the reference at the beginning of the video; empty gives none.
        tail: likewise at its end.
    """

    head: str = ""
    tail: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references."""
        return tuple(name for name in (self.head, self.tail) if name)


CONDITIONS: dict[str, Given] = {
    TEXT_TO_VIDEO: Given(),
    HEAD: Given(head="head"),
    TAIL: Given(tail="tail"),
    LOOP: Given(head="head", tail="tail"),
    EXTEND: Given(head="head_short"),
    "v2v_tail": Given(tail="tail_short"),
    "v2v_head_easy": Given(head="head_long"),
    "v2v_tail_easy": Given(tail="tail_long"),
}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError for unknown kinds, negative weights, or weights that sum to nothing."""
    unknown = sorted(set(weights) - set(CONDITIONS))
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}; there are {', '.join(CONDITIONS)}")
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) <= 0:
        raise ValueError(f"condition weights have to be positive, not {dict(weights)}")


def reference_frames(length: str, frames: int) -> int:
    """Frames of a `short` or `long` reference of a video of `frames`.

    An odd number of frames tells a causal autoencoder (4k + 1), whose references have an odd number too.
    """
    return REFERENCE_FRAMES[length] + frames % 2


def fitting_weights(
    weights: Mapping[str, float], references: Mapping[str, torch.Tensor], frames: int
) -> dict[str, float]:
    """The weights of the kinds that leave a video of this length something to make; text alone where none does.

    Args:
        weights: weight of each kind, left as it is.
        references: name -> latents [B, C, L, H, W] that there are.
        frames: latent frames of the video.
    """
    fitting = {}
    for kind, weight in weights.items():
        names = CONDITIONS[kind].references
        held = all(name in references for name in names)
        if held and sum(references[name].shape[2] for name in names) < frames:
            fitting[kind] = weight
    return fitting if sum(fitting.values()) > 0 else {TEXT_TO_VIDEO: 1.0}


def draw_conditions(weights: Mapping[str, float], count: int, generator: torch.Generator) -> list[str]:
    """Draws a kind of condition for each of `count` samples with probability proportional to its weight."""
    import torch

    kinds = sorted(weights)
    probabilities = torch.tensor([weights[kind] for kind in kinds], dtype=torch.float32)
    return [kinds[i] for i in torch.multinomial(probabilities, count, replacement=True, generator=generator)]


def condition_latents(kinds: Sequence[str], references: Mapping[str, torch.Tensor], frames: int) -> torch.Tensor:
    """Builds the condition channels.

    Args:
        kinds: one of `CONDITIONS` per sample.
        references: name -> latents [B, C, L, H, W] of one batch, at least one entry; a row is read where its
            sample's kind names it.
        frames: latent frames T; a single latent frame (an image) is never given.

    Returns:
        [B, 1 + C, T, H, W], dtype and device of the references.

    Raises:
        ValueError: a kind needs a reference that is not there, or one longer than the video.
    """
    batch, channels, _, height, width = next(iter(references.values())).shape
    condition = next(iter(references.values())).new_zeros(batch, 1 + channels, frames, height, width)
    if frames == 1:
        return condition
    for sample, kind in enumerate(kinds):
        given = CONDITIONS[kind]
        for name in given.references:
            if name not in references:
                raise ValueError(f"condition {kind} needs the reference {name!r}; given: {', '.join(references)}")
            latent = references[name][sample]
            length = latent.shape[1]
            if length > frames:
                raise ValueError(f"condition {kind} gives {length} latent frames, the video has {frames}")
            place = slice(0, length) if name == given.head else slice(frames - length, frames)
            condition[sample, 0, place] = 1
            condition[sample, 1:, place] = latent
    return condition


def given_frames(condition: torch.Tensor) -> torch.Tensor:
    """Which latent frames are given: [B, 1 + C, T, H, W] of `condition_latents` -> bool [B, T]."""
    return condition[:, 0, :, 0, 0] > 0
