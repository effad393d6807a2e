"""Rectified flow matching: noise schedule and targets (Open-Sora 2.0, section 4.2.1 and its released code).

Paper and released code differ in the sign of the velocity, in the noise left at t = 0 and in the time shift, and the
released training and inference code differ in the shift again; `FlowConfig` names every choice. Its defaults are those
of the released training code, but for the precision of time. A checkpoint stores its `FlowConfig`, so that sampling
continues what training did.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

if TYPE_CHECKING:
    import torch

VelocitySign = Literal["released", "paper"]
ShiftRule = Literal["released_training", "released_inference", "paper"]
TimePrecision = Literal["released", "float32"]

SMALLEST_IMAGE_TOKENS = 256  # a 256x256 image at 8x8 pixels a latent pixel and patch 2: alpha 1 in the released code
LARGEST_IMAGE_TOKENS = 4096  # a 1024x1024 image: alpha 3 in the released code


@dataclass(frozen=True)
class FlowConfig:
    """The flow from data (t = 0) to noise (t = 1).

    Attributes:
        sigma_min: noise that is left at t = 0 (1e-5 in the released code, 0 in the paper).
        logit_mean: mean of the normal distribution under t = sigmoid(normal).
        logit_std: its standard deviation.
        shift: fixed time shift; 0 means `shift_rule`.
        shift_rule: how the shift follows the size of the video, see `time_shift`.
        inference_shift_rule: the same for sampling; empty means `shift_rule`. The released inference code shifts
            the DC-AE model by another rule than it was trained with (5.33 and 6.60 at 768px, 128 frames).
        velocity: `released` predicts noise - data, `paper` data - noise.
        time_precision: what the model sees of the time. `released`: t and 1000 t are rounded to the dtype that the
            model computes in, as the released code does; in bfloat16, in which the released weights were trained,
            that moves the fastest phase of the embedding by up to 4 radians. `float32`: neither is rounded. In
            float32 the two are one.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sigma_min: float = 1e-5
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 0.0
    shift_rule: ShiftRule = "released_training"
    inference_shift_rule: ShiftRule | Literal[""] = ""
    velocity: VelocitySign = "released"
    time_precision: TimePrecision = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if not 0 <= self.sigma_min < 1 or self.logit_std <= 0 or self.shift < 0:
            raise ValueError(
                f"sigma_min {self.sigma_min} has to be in [0, 1), logit_std {self.logit_std} above 0 and "
                f"shift {self.shift} at least 0"
            )
        check_shift_rule(self.shift_rule)
        check_shift_rule(self.inference_shift_rule or self.shift_rule)
        if self.velocity not in get_args(VelocitySign):
            raise ValueError(f"velocity has to be one of {', '.join(get_args(VelocitySign))}, not {self.velocity!r}")
        if self.time_precision not in get_args(TimePrecision):
            known = ", ".join(get_args(TimePrecision))
            raise ValueError(f"time_precision has to be one of {known}, not {self.time_precision!r}")

    @property
    def sign(self) -> int:
        """1 where the model predicts noise - data, -1 where it predicts data - noise."""
        return 1 if self.velocity == "released" else -1


def check_shift_rule(rule: str) -> None:
    """Raises ValueError for a rule that `time_shift` does not know."""
    if rule not in _RULES:
        raise ValueError(f"shift_rule has to be one of {', '.join(_RULES)}, not {rule!r}")


def _released(tokens: float, frames: int) -> float:
    """1 for the smallest image, 3 for the largest, linear in the tokens of a frame; times sqrt(latent frames)."""
    slope = 2 * (tokens - SMALLEST_IMAGE_TOKENS) / (LARGEST_IMAGE_TOKENS - SMALLEST_IMAGE_TOKENS)
    return (1 + slope) * math.sqrt(frames)


_RULES: dict[str, Callable[[int, int, int, int], float]] = {
    "released_training": lambda t, h, w, patch: _released(h * w // 4, t),
    "released_inference": lambda t, h, w, patch: _released(h * w / patch**2, t),
    "paper": lambda t, h, w, patch: t * h * w / patch**2 / SMALLEST_IMAGE_TOKENS,
}


def time_shift(
    latent_shape: tuple[int, int, int, int], patch_size: int, rule: ShiftRule = "released_training"
) -> float:
    """The shift alpha that gives longer and larger videos more steps near pure noise.

    `released_training`: alpha = (1 + 2 (n - 256) / (4096 - 256)) sqrt(T) with n = H W // 4, whatever the patch size.
    `released_inference`: the same with n = H W / patch_size^2; equal at patch 2, not for the DC-AE (patch 1).
    `paper`: alpha = T H W / (256 patch_size^2). The paper says "proportional to T x H x W" and gives no factor; ours
    makes a 256px image 1, as in the released rule.

    Args:
        latent_shape: (C, T, H, W) of the latent video.
        patch_size: latent pixels per token and axis.
        rule: see above.

    Returns:
        alpha, positive; 1 shifts nothing.

    Raises:
        ValueError: an unknown rule.
    """
    check_shift_rule(rule)
    _, frames, height, width = latent_shape
    return _RULES[rule](frames, height, width, patch_size)


def training_shift(config: FlowConfig, latent_shape: tuple[int, int, int, int], patch_size: int) -> float:
    """The shift of the times that are trained on: fixed, or by the rule."""
    return config.shift or time_shift(latent_shape, patch_size, config.shift_rule)


def shift_time(time: torch.Tensor, alpha: float) -> torch.Tensor:
    """Maps t in [0, 1] to alpha t / (1 + (alpha - 1) t)."""
    return alpha * time / (1 + (alpha - 1) * time)


def time_of(
    config: FlowConfig, normal: torch.Tensor, latent_shape: tuple[int, int, int, int], patch_size: int
) -> torch.Tensor:
    """Training times of standard normal numbers: logit-normal, then shifted.

    Args:
        config: mean, deviation and shift.
        normal: float32 [B].
        latent_shape: (C, T, H, W) of the latent video.
        patch_size: of the model.

    Returns:
        float32 [B] in (0, 1).
    """
    import torch

    drawn = torch.sigmoid(normal * config.logit_std + config.logit_mean)
    return shift_time(drawn, training_shift(config, latent_shape, patch_size))


def model_time(config: FlowConfig, time: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The time as the model is given it; its dtype says how precisely the model reads it.

    Args:
        config: `time_precision`.
        time: [B] in [0, 1].
        dtype: that the model computes in: of its weights, or of autocast.
    """
    import torch

    return time.to(dtype if config.time_precision == "released" else torch.float32)


def noisy_sample_and_target(
    config: FlowConfig, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The point on the path at `time` and the velocity there.

    x_t = (1 - t) x_0 + (1 - (1 - sigma_min) (1 - t)) e and v = (1 - sigma_min) e - x_0, which is dx/dt; with
    `velocity: paper` the target is -v. Either way the sampler walks from t = 1 to t = 0.

    Args:
        config: sigma_min and the sign of the velocity.
        clean: latents [B, ...].
        noise: standard normal, same shape.
        time: [B] in [0, 1].

    Returns:
        (x_t, target), both of the shape of `clean`.
    """
    keep = 1 - config.sigma_min
    t = time.to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
    return (1 - t) * clean + (1 - keep * (1 - t)) * noise, config.sign * (keep * noise - clean)
