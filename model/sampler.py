"""Sampling videos: Euler steps along the learned flow with text and image guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class SamplerConfig:
    """How a video is sampled; the defaults are Open-Sora 2.0's.

    Attributes:
        steps: Euler steps.
        text_guidance: weight of the text (1 = no guidance).
        image_guidance: weight of the given image, where one is given.
        oscillation: after step `oscillation_start` every odd step runs without image guidance.
        oscillation_text: the same for text guidance (the released code does it, the paper does not).
        oscillation_start: index of the last step before the oscillation.
        dynamic_image_guidance: image guidance grows along the video's frames and shrinks along the steps.
        shift: fixed time shift; 0 means the rule of `flow.time_shift`.
        batch_size: videos that run together; part of the result only through rounding.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 50
    text_guidance: float = 7.5
    image_guidance: float = 3.0
    oscillation: bool = True
    oscillation_text: bool = True
    oscillation_start: int = 10
    dynamic_image_guidance: bool = True
    shift: float = 0.0
    batch_size: int = 8
