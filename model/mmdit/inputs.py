"""Checks of what the MMDiT is called with, and the valid tokens of padded batches."""

from __future__ import annotations

import torch
from torch import Tensor

from zoetrope.model.attention import PackedLengths
from zoetrope.model.mmdit.config import MMDiTConfig


def check_inputs(
    config: MMDiTConfig,
    img: Tensor,
    img_ids: Tensor,
    txt: Tensor,
    txt_ids: Tensor,
    timesteps: Tensor,
    y_vec: Tensor,
    cond: Tensor | None,
    packed: tuple[PackedLengths, PackedLengths] | None,
) -> None:
    """Raises ValueError, naming what was expected and found, for shapes that do not fit (see `MMDiT.forward`)."""
    if cond is not None and not config.cond_embed:
        raise ValueError("this model was built without image conditions (cond_embed is false)")
    batch, tokens = img.shape[0], img.shape[1]
    samples = batch
    if packed is not None:
        text, image = packed
        samples = len(image.each)
        _expect("cumulative lengths of the texts end at", text.total, txt.shape[1])
        _expect("cumulative lengths of the videos end at", image.total, tokens)
    _expect("img", tuple(img.shape), (batch, tokens, config.in_channels))
    _expect("img_ids", tuple(img_ids.shape), (batch, tokens, 3))
    _expect("txt", tuple(txt.shape), (batch, txt.shape[1], config.context_in_dim))
    _expect("txt_ids", tuple(txt_ids.shape), (batch, txt.shape[1], 3))
    _expect("timesteps", tuple(timesteps.shape), (samples,))
    _expect("y_vec", tuple(y_vec.shape), (samples, config.vec_in_dim))
    if cond is not None:
        _expect("cond", tuple(cond.shape), (batch, tokens, config.cond_channels))


def _expect(name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise ValueError(f"{name}: expected {wanted}, found {found}")


def valid_tokens(tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """bool [B, S]: True for the first `lengths` tokens of each sample of [B, S, ...]."""
    if lengths is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]


def cumulative(valid: Tensor) -> Tensor:
    """Cumulative lengths int32 [B + 1] of a mask of valid tokens [B, S]."""
    return torch.nn.functional.pad(valid.sum(dim=1).cumsum(0), (1, 0)).to(torch.int32)
