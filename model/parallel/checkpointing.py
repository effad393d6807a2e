"""Activation checkpointing of blocks: what is kept between forward and backward, and what is computed again.

A block keeps, in elements per token and feature of the hidden size (feed-forward 4 times as wide):

| | none, double | none, single | selective, double | selective, single | full |
|---|---|---|---|---|---|
| input | | | 1 | 1 | 1 |
| query, key, value | | | 3 | 3 | |
| attention | | | 1 | 1 | |
| projection after it | | | 1 | | |
| feed-forward, hidden and out | | | 4 + 1 | 4 + 1 | |
| all | 25, packed 33 | 21, packed 25 | 11 | 10 | 1 |

so `selective` takes 22 bytes in bfloat16 and 44 in float32, beside the statistics of attention (4 bytes a head). It
computes norms, modulations, rotations and activation functions again, which is about 1 % of the operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.parallel.config import ParallelConfig

KEPT = frozenset(
    {
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::_scaled_mm",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::_scaled_dot_product_cudnn_attention",
        "aten::_flash_attention_forward",
        "torch_attn::_varlen_attn",
        "flash_attn::_flash_attn_forward",
        "flash_attn::_flash_attn_varlen_forward",
    }
)
"""Operations whose results `selective` keeps: matrix products, and attention by each kernel of `attention.BACKENDS`.

Not the exchanges of context parallelism: they would be 4 elements more a token and feature, and are repeated.
"""

Forward = Callable[..., Any]


def _policy(_context: Any, operation: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    kept = operation._schema.name in KEPT if hasattr(operation, "_schema") else False
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


_contexts: Callable[[], Any] = partial(create_selective_checkpoint_contexts, _policy)


def checkpoint_blocks(model: MMDiT, config: ParallelConfig) -> None:
    """Makes the blocks of a model keep what `config.checkpointing` says; names of parameters stay as they are."""
    kinds: list[tuple[Literal["double", "single"], nn.ModuleList, int]] = [
        ("double", model.double_blocks, 2),
        ("single", model.single_blocks, 1),
    ]
    for kind, blocks, streams in kinds:
        for index, block in enumerate(blocks):
            keeps = config.keeps(kind, index)
            if keeps != "none":
                forward = checkpointed(block.forward, streams, selective=keeps == "selective")
                block.forward = offloaded(forward) if config.offload else forward


def checkpointed(forward: Forward, streams: int, *, selective: bool) -> Forward:
    """The forward of a block that computes again in the backward pass what it did not keep.

    Args:
        forward: of the block.
        streams: how many of its first arguments are activations; the others are shared by all blocks and therefore
            bound, not kept by each.
        selective: whether results of `KEPT` operations stay.
    """
    # no dropout in any block: nothing random to be drawn again
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if selective:
        options["context_fn"] = _contexts

    def run(*arguments: Any) -> Any:
        tokens, shared = arguments[:streams], arguments[streams:]
        return checkpoint(lambda *given: forward(*given, *shared), *tokens, **options)

    return run


def offloaded(forward: Forward) -> Forward:
    """The forward of a fully checkpointed block whose inputs wait in the host's memory for the backward pass."""

    def run(*arguments: Any) -> Any:
        on_device = any(isinstance(each, Tensor) and each.is_cuda for each in arguments)
        with save_on_cpu(pin_memory=on_device and torch.cuda.is_available()):
            return forward(*arguments)

    return run
