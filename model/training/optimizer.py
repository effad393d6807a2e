"""AdamW, its schedule and one step of it; the same for every network that is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

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
