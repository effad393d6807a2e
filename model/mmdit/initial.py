"""First weights of a new MMDiT, from a seed; the same in one process and sharded over many."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoetrope.model.checkpoint.loading import copy_into
from zoetrope.model.mmdit.layers import Modulation, RMSNorm

if TYPE_CHECKING:
    from zoetrope.model.mmdit.model import MMDiT


def initialise(model: MMDiT, seed: int) -> None:
    """See `MMDiT.initialise`.

    Values are drawn on the CPU, whole weight by whole weight and always in the same order, so that no more than one
    of them is in memory beside the model.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            _fill(module.weight, lambda weight: nn.init.xavier_uniform_(weight, generator=generator))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.scale)
    for embedder in (model.time_in, model.vector_in):
        for layer in (embedder.in_layer, embedder.out_layer):
            _fill(layer.weight, lambda weight: nn.init.normal_(weight, std=0.02, generator=generator))
    zeros: list[nn.Module] = [module for module in model.modules() if isinstance(module, Modulation)]
    zeros += [model.final_layer, model.cond_in] if model.config.cond_embed else [model.final_layer]
    for module in zeros:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


@torch.no_grad()
def _fill(parameter: Tensor, draw: Callable[[Tensor], Tensor]) -> None:
    copy_into(parameter, draw(torch.empty(parameter.shape, dtype=parameter.dtype)))
