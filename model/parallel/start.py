"""The start of a sharded model: from the meta device, so that no process ever holds the whole of it."""

from __future__ import annotations

import torch

from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT


def on_meta(config: MMDiTConfig) -> MMDiT:
    """A float32 model without memory, for `apply_parallel`."""
    with torch.device("meta"):
        return MMDiT(config)


def materialise(model: MMDiT, seed: int, device: torch.device | str = "cpu") -> MMDiT:
    """Gives a sharded model on the meta device its first weights, the same on every mesh (see `MMDiT.initialise`).

    Weights of a file come by `checkpoint.load_weights(model, path, device=device)` instead.

    Args:
        model: of `apply_parallel`.
        seed: of the weights.
        device: of this process.
    """
    model.to_empty(device=device)
    return model.initialise(seed)
