"""How a video is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoetrope.model.flow import FlowConfig, ShiftRule, check_shift_rule, time_shift


@dataclass(frozen=True)
class SamplerConfig:
    """How a video is sampled; the defaults are Open-Sora 2.0's (paper, section 5.2, and its released configs).

    Attributes:
        steps: Euler steps.
        text_guidance: weight of the text (1 = no guidance).
        image_guidance: weight of the given frames, where some are given.
        oscillation: after step `oscillation_start` every odd step runs without image guidance.
        oscillation_text: the same for text guidance (the released code does it, the paper does not).
        oscillation_start: index of the last step before the oscillation.
        dynamic_image_guidance: in image to video, image guidance grows along the video's frames and shrinks along
            the steps.
        overwrite_given_frames: given latent frames replace the sampled ones at the end.
        shift: fixed time shift; 0 means the flow's.
        shift_rule: how the shift follows the size of the video; empty means the rule that the flow names for
            inference.
        batch_size: videos that are sampled, and later decoded, together.
        batched_forwards: the videos of a batch share the forward passes, which is faster for small models. A video
            then depends by rounding on what is beside it (8e-6 in float32, measured with a random model of the
            nano size after 50 steps); otherwise it has the same bits in any batch.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 50
    text_guidance: float = 7.5
    image_guidance: float = 3.0
    oscillation: bool = True
    oscillation_text: bool = True
    oscillation_start: int = 10
    dynamic_image_guidance: bool = True
    overwrite_given_frames: bool = True
    shift: float = 0.0
    shift_rule: ShiftRule | Literal[""] = ""
    batch_size: int = 8
    batched_forwards: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for settings that cannot be sampled with."""
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps} and batch_size {self.batch_size} have to be at least 1")
        if self.shift < 0:
            raise ValueError(f"shift {self.shift} has to be positive, or 0 for the rule")
        if self.shift_rule:
            check_shift_rule(self.shift_rule)

    def guidance(self, index: int) -> tuple[float, float]:
        """Text and image guidance of step `index` (from 0)."""
        quiet = self.oscillation and index > self.oscillation_start and index % 2 == 1
        text = 1.0 if quiet and self.oscillation_text else self.text_guidance
        return text, 1.0 if quiet else self.image_guidance

    def time_shift(self, flow: FlowConfig, latent_shape: tuple[int, int, int, int], patch_size: int) -> float:
        """The time shift alpha: the first of the sampler's fixed shift, its rule, the flow's fixed shift, its rule.

        Args:
            flow: the flow that the model was trained on.
            latent_shape: (C, T, H, W).
            patch_size: of the model.
        """
        if self.shift:
            return self.shift
        if self.shift_rule:
            return time_shift(latent_shape, patch_size, self.shift_rule)
        return flow.shift or time_shift(latent_shape, patch_size, flow.inference_shift_rule or flow.shift_rule)
