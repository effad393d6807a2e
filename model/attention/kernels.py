"""The attention kernels, each behind two functions: a batch of equal lengths, and a packed sequence.

Shape letters: B batch, S tokens, K heads, E head dimension. Attention is never causal here; the scale is E^-0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoetrope.model.attention.lengths import PackedLengths

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(query, key, value [B, S, K, E], mask bool [B, 1, 1, S] of the keys that take part or None) -> [B, S, K, E]."""

AttendPacked = Callable[[Tensor, Tensor, Tensor, PackedLengths], Tensor]
"""(query, key, value [S, K, E], lengths) -> [S, K, E]; no token sees another sample."""


def sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's scaled dot product attention, with the kernel that PyTorch chooses."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def sdpa_packed(query: Tensor, key: Tensor, value: Tensor, lengths: PackedLengths) -> Tensor:
    """One call per sample; on CUDA in half precision one call of PyTorch's variable-length kernel."""
    if query.is_cuda and value.dtype in HALF:
        return varlen(query, key, value, lengths)
    pieces = (torch.split(each, list(lengths.each)) for each in (query, key, value))
    return torch.cat([sdpa(q[None], k[None], v[None], None)[0] for q, k, v in zip(*pieces, strict=True)])


def varlen(query: Tensor, key: Tensor, value: Tensor, lengths: PackedLengths) -> Tensor:
    """PyTorch's variable-length attention (CUDA, half precision), with the registered flash kernel."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = in_half(query, key, value)
    cumulative, longest = lengths.cumulative, lengths.longest
    out = varlen_attn(query, key, value, cumulative, cumulative, longest, longest, scale=query.shape[-1] ** -0.5)
    assert isinstance(out, Tensor)
    return out


def registered_flash(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot product attention through the flash kernel registered with PyTorch (3 or 4)."""
    require_no_mask(mask)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa(*in_half(query, key, value), None)


def flash_2(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The flash-attn package's kernel for equal lengths."""
    require_no_mask(mask)
    query, key, value = in_half(query, key, value)
    out: Tensor = _flash_attn().flash_attn_func(query, key, value, softmax_scale=query.shape[-1] ** -0.5, causal=False)
    return out


def flash_2_packed(query: Tensor, key: Tensor, value: Tensor, lengths: PackedLengths) -> Tensor:
    """The flash-attn package's kernel for variable lengths."""
    query, key, value = in_half(query, key, value)
    out: Tensor = _flash_attn().flash_attn_varlen_func(
        query,
        key,
        value,
        cu_seqlens_q=lengths.cumulative,
        cu_seqlens_k=lengths.cumulative,
        max_seqlen_q=lengths.longest,
        max_seqlen_k=lengths.longest,
        softmax_scale=query.shape[-1] ** -0.5,
        causal=False,
    )
    return out


def _flash_attn() -> Any:
    import flash_attn

    return flash_attn


HALF = (torch.float16, torch.bfloat16)


def in_half(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three in one half-precision dtype, which is all that the flash kernels know.

    Norm and rotation may leave queries and keys in float32 under autocast; the values tell the dtype wanted.

    Raises:
        ValueError: the model computes in float32.
    """
    dtype = value.dtype
    if dtype not in HALF and torch.is_autocast_enabled(value.device.type):
        dtype = torch.get_autocast_dtype(value.device.type)
    if dtype not in HALF:
        raise ValueError(
            f"flash attention computes in float16 or bfloat16, not {dtype}; run the model in bfloat16 or choose sdpa"
        )
    return query.to(dtype), key.to(dtype), value.to(dtype)


def require_no_mask(mask: Tensor | None) -> None:
    """Raises ValueError where a mask is given: the flash kernels take lengths, not masks."""
    if mask is not None:
        raise ValueError("flash kernels take no mask; give the samples packed, with their lengths")
