"""Building blocks of the MMDiT, named as in Open-Sora 2.0's state dict.

Shape letters: B batch (1 when packed), n samples, L text tokens, N image tokens, S = L + N, D hidden size, K heads,
E head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.layout import Layout


def timestep_embedding(time: Tensor, dimension: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoids of 1000 t, [cos | sin].

    Args:
        time: [B] in [0, 1]; 1000 t is rounded to its dtype (see `flow.model_time`).
        dimension: even number of features.

    Returns:
        float32 [B, dimension].
    """
    half = dimension // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = (1000.0 * time).float()[:, None] * torch.exp(-math.log(max_period) * exponents)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rotary_table(ids: Tensor, axes_dim: tuple[int, int, int], theta: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary position embedding over three axes.

    Args:
        ids: positions [B, S, 3] or [1, S, 3].

    Returns:
        (cos, sin), each float32 [B or 1, S, 1, E/2]: one angle per pair of features.
    """
    angles = []
    for axis, dimension in enumerate(axes_dim):
        # float64: positions times small frequencies lose digits in float32 for long videos
        exponents = torch.arange(0, dimension, 2, dtype=torch.float64, device=ids.device) / dimension
        angles.append(ids[..., axis, None].double() * theta**-exponents)
    table = torch.cat(angles, dim=-1)[:, :, None]
    return table.cos().float(), table.sin().float()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the rotary embedding to x [B, S, K, E]: feature i pairs with feature i + E/2."""
    if (
        torch.compiler.is_compiling()
    ):  # the compiler fuses the plain expression better than it sees through _RotaryEmbedding
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
    out: Tensor = _RotaryEmbedding.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return out


class _RotaryEmbedding(torch.autograd.Function):
    """The rotation with a backward pass of its own, the rotation back, so that only the table is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate_pairs(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate_pairs(gradient, cos, sin, -1), None, None


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """Rotates each pair of features by its angle; `direction` -1 rotates back.

    The sums are in float32 (the dtype of the table), whatever the dtype of x, and need one buffer of the size of x.
    """
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=cos.dtype, device=x.device)
    rotated_first, rotated_second = out.chunk(2, dim=-1)
    torch.mul(first, cos, out=rotated_first).addcmul_(second, sin, value=-direction)
    torch.mul(second, cos, out=rotated_second).addcmul_(first, sin, value=direction)
    return out.to(x.dtype)


class MLPEmbedder(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, in_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(in_dim, hidden_dim)
        self.out_layer = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_dim] -> [B, hidden_dim]."""
        out: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return out


class RMSNorm(nn.Module):
    """Root mean square normalisation of one head with a learned scale (named `scale` in the state dict)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dimension))

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        # autocast leaves the scale in float32, which would cost the fused kernel
        return F.rms_norm(x, (x.shape[-1],), self.scale.to(x.dtype), eps=1e-6)


class QKNorm(nn.Module):
    """Normalises queries and keys before the rotation."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.query_norm = RMSNorm(dimension)
        self.key_norm = RMSNorm(dimension)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Both [B, S, K, E]."""
        return self.query_norm(query), self.key_norm(key)


class Modulation(nn.Module):
    """Shifts, scales and gates of a block from the vector of time and pooled text."""

    def __init__(self, dimension: int, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks
        self.lin = nn.Linear(dimension, chunks * dimension)

    def forward(self, vector: Tensor, spread: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """Vectors [n, D] -> `chunks` tensors in the order (shift, scale, gate), repeated.

        `spread` gives every token its sample's values (see `layout.Layout`).
        """
        values: Tensor = spread(self.lin(F.silu(vector)))
        return values.chunk(self.chunks, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then (1 + scale) x + shift."""
    return torch.addcmul(shift, F.layer_norm(x, (x.shape[-1],), eps=1e-6), 1 + scale)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, S, D] -> [B, S, K, E]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)  # not -1: a part may have no tokens


class SelfAttention(nn.Module):
    """Projections of one stream of a double block; the attention itself is joint."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_heads
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.norm = QKNorm(config.head_dim)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, S, D] -> query, key (normalised) and value, each [B, S, K, E]."""
        query, key, value = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        return *self.norm(query, key), value


def feed_forward(config: MMDiTConfig) -> nn.Sequential:
    """Linear, GELU (tanh), Linear."""
    hidden = int(config.hidden_size * config.mlp_ratio)
    return nn.Sequential(
        nn.Linear(config.hidden_size, hidden),
        nn.GELU(approximate="tanh"),
        nn.Linear(hidden, config.hidden_size),
    )


class DoubleStreamBlock(nn.Module):
    """Text and image with weights of their own, one attention over both (text first)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.img_mod = Modulation(config.hidden_size, 6)
        self.txt_mod = Modulation(config.hidden_size, 6)
        self.img_attn = SelfAttention(config)
        self.txt_attn = SelfAttention(config)
        self.img_mlp = feed_forward(config)
        self.txt_mlp = feed_forward(config)

    def forward(
        self, img: Tensor, txt: Tensor, vector: Tensor, rotary: tuple[Tensor, Tensor], layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """img [B, N, D], txt [B, L, D], vector [n, D] -> (img, txt)."""
        img_shift1, img_scale1, img_gate1, img_shift2, img_scale2, img_gate2 = self.img_mod(vector, layout.for_image)
        txt_shift1, txt_scale1, txt_gate1, txt_shift2, txt_scale2, txt_gate2 = self.txt_mod(vector, layout.for_text)
        txt_qkv = self.txt_attn(modulate(txt, txt_shift1, txt_scale1))
        img_qkv = self.img_attn(modulate(img, img_shift1, img_scale1))
        query, key, value = (layout.join(*pair) for pair in zip(txt_qkv, img_qkv, strict=True))
        joint = layout.attend(apply_rotary(query, *rotary), apply_rotary(key, *rotary), value).flatten(2)
        txt_attended, img_attended = layout.split(joint)
        img = torch.addcmul(img, img_gate1, self.img_attn.proj(img_attended))
        img = torch.addcmul(img, img_gate2, self.img_mlp(modulate(img, img_shift2, img_scale2)))
        txt = torch.addcmul(txt, txt_gate1, self.txt_attn.proj(txt_attended))
        txt = torch.addcmul(txt, txt_gate2, self.txt_mlp(modulate(txt, txt_shift2, txt_scale2)))
        return img, txt


class SingleStreamBlock(nn.Module):
    """One set of weights for the joint sequence; attention and feed-forward run in parallel."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        width, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.heads = config.num_heads
        self.modulation = Modulation(width, 3)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_mlp = nn.Linear(width, width + hidden)
        self.norm = QKNorm(config.head_dim)
        self.linear2 = nn.Linear(width + hidden, width)

    def forward(self, x: Tensor, vector: Tensor, rotary: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
        """x [B, S, D], vector [n, D] -> [B, S, D]."""
        shift, scale, gate = self.modulation(vector, layout.for_joint)
        h = modulate(x, shift, scale)
        value, hidden = self.v_mlp(h).split([x.shape[-1], self.v_mlp.out_features - x.shape[-1]], dim=-1)
        query, key = self.norm(split_heads(self.q_proj(h), self.heads), split_heads(self.k_proj(h), self.heads))
        value = split_heads(value, self.heads)
        attended = layout.attend(apply_rotary(query, *rotary), apply_rotary(key, *rotary), value).flatten(2)
        out = self.linear2(torch.cat([attended, F.gelu(hidden, approximate="tanh")], dim=-1))
        return torch.addcmul(x, gate, out)


class LastLayer(nn.Module):
    """Modulated projection back to latent features."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.in_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden_size, 2 * config.hidden_size))

    def forward(self, x: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        """[B, N, D], [n, D] -> [B, N, in_channels]."""
        shift, scale = layout.for_image(self.adaLN_modulation(vector)).chunk(2, dim=-1)
        out: Tensor = self.linear(modulate(x, shift, scale))
        return out
