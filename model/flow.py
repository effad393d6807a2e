"""Rectified flow matching: noise schedule, targets and loss (Open-Sora 2.0, section 4.2.1 and its released code)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FlowConfig:
    """The flow from data (t = 0) to noise (t = 1).

    Attributes:
        sigma_min: noise that is left at t = 0.
        logit_mean: mean of the normal distribution under t = sigmoid(normal).
        logit_std: its standard deviation.
        shift: fixed time shift; 0 means the rule of `time_shift`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sigma_min: float = 1e-5
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 0.0


def time_shift(latent_shape: tuple[int, int, int, int], patch_size: int) -> float:
    """The shift alpha that gives longer and larger videos more steps near pure noise.

    alpha = (1 + 2 (n - 256) / (4096 - 256)) sqrt(T), n = H W / patch_size^2 tokens a frame. (Open-Sora's training
    code divides by 4 whatever the patch size; its inference code by patch_size^2, which is what we do in both.)

    Args:
        latent_shape: (C, T, H, W) of the latent video.
        patch_size: latent pixels per token and axis.
    """
    _, frames, height, width = latent_shape
    tokens = height * width / patch_size**2
    return (1 + 2 * (tokens - 256) / (4096 - 256)) * math.sqrt(frames)


def shift_time(time: torch.Tensor, alpha: float) -> torch.Tensor:
    """Maps t in [0, 1] to alpha t / (1 + (alpha - 1) t)."""
    return alpha * time / (1 + (alpha - 1) * time)


def sample_time(
    config: FlowConfig,
    count: int,
    latent_shape: tuple[int, int, int, int],
    patch_size: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draws training times: logit-normal, then shifted. Returns float32 [count] in (0, 1)."""
    import torch

    normal = torch.randn(count, generator=generator) * config.logit_std + config.logit_mean
    alpha = config.shift or time_shift(latent_shape, patch_size)
    return shift_time(torch.sigmoid(normal), alpha)


def noisy_sample_and_target(
    config: FlowConfig, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The point on the path at `time` and the velocity there.

    x_t = (1 - t) x_0 + (1 - (1 - sigma_min) (1 - t)) e, v = (1 - sigma_min) e - x_0: the sign of the released code
    (the paper writes the opposite one), so the sampler walks from t = 1 to t = 0.

    Args:
        clean: latents [B, ...].
        noise: standard normal, same shape.
        time: [B] in [0, 1].

    Returns:
        (x_t, v), both of the shape of `clean`.
    """
    keep = 1 - config.sigma_min
    t = time.to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
    return (1 - t) * clean + (1 - keep * (1 - t)) * noise, keep * noise - clean


def flow_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error over all elements, in float32 whatever the model computes in."""
    return (prediction.float() - target.float()).square().mean()
