"""AdamW, its schedule and one step of it; the same for every network that is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zoetrope.model.training.config import OptimizerConfig


def adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """The optimizer that the config describes."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) in a loop of `steps`."""
    rate = config.learning_rate
    for start, dropped in sorted(config.drops.items()):
        if step >= start:
            rate = dropped
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.decay == "cosine":
        done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        rate *= config.final_ratio + (1 - config.final_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    return rate


def optimizer_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, config: OptimizerConfig, step: int, rate: float, whose: str
) -> float:
    """Backward pass and one step of an optimizer with clipped gradients.

    Args:
        optimizer: of `adamw`.
        loss: scalar, on every worker the one of its part of the batch.
        config: of the optimizer.
        step: from 0.
        rate: learning rate of this step.
        whose: names the loop in the error, e.g. `training`.

    Returns:
        The norm of the gradient before clipping.

    Raises:
        ValueError: the gradient is not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm).item()
    if not math.isfinite(norm):  # the same on all workers, since gradients are means over them
        raise ValueError(
            f"{whose}: the gradient is not finite in step {step + 1} (loss {loss.item():.4g}, learning rate "
            f"{rate:.3g}); lower the learning rate or lengthen the warm-up"
        )
    optimizer.step()
    return norm
