"""Blocks of HunyuanVideo's autoencoder, named as in the released weights.

All convolutions are causal in time: a frame sees itself and earlier ones, and the first frame is repeated to the
left. Shape letters: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of all group norms (released code)


class CausalConv3d(nn.Module):
    """Convolution with repeated borders: on all sides of space, in time on the left alone."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - 1, 0)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', ceil(T / stride), ceil(H / stride), ceil(W / stride)]."""
        if any(self.padding):
            x = F.pad(x, self.padding, mode="replicate")
        out: Tensor = self.conv(x)
        return out


class ResnetBlock(nn.Module):
    """Two times norm, SiLU and convolution, with a residual that is projected where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, EPSILON)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, EPSILON)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        if in_channels != out_channels:
            self.conv_shortcut = CausalConv3d(in_channels, out_channels, kernel=1)
        self.projects = in_channels != out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        shortcut = self.conv_shortcut(x) if self.projects else x
        out: Tensor = hidden + shortcut
        return out


class FrameCausalAttention(nn.Module):
    """Attention with one head over all voxels of a frame and of the frames before it.

    Frames are queried one after the other against what they may see. That is the masked attention of the released
    code in half of its operations and without its mask, whose size is the square of the number of voxels.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, EPSILON)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        voxels = x[0, 0, 0].numel()
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # [B, 1, T H W, C]
        query, key, value = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        attended = [
            F.scaled_dot_product_attention(
                query[:, :, end - voxels : end].contiguous(), key[:, :, :end], value[:, :, :end]
            )
            for end in range(voxels, tokens.shape[2] + 1, voxels)
        ]
        out: Tensor = self.to_out[0](torch.cat(attended, dim=2))[:, 0]
        return x + out.transpose(1, 2).reshape(x.shape)


class MiddleBlock(nn.Module):
    """Residual unit, attention, residual unit."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([FrameCausalAttention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        first, last = self.resnets
        out: Tensor = last(self.attentions[0](first(x)))
        return out


class Downsampler(nn.Module):
    """Strided convolution."""

    def __init__(self, channels: int, *, temporal: bool) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=(2 if temporal else 1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T or (T + 1) / 2, H / 2, W / 2]."""
        out: Tensor = self.conv(x)
        return out


class Upsampler(nn.Module):
    """Nearest-neighbour enlargement and convolution; the first frame is never repeated in time."""

    def __init__(self, channels: int, *, temporal: bool) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels)
        self.temporal = temporal

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C, T or 2 T - 1, 2 H, 2 W]."""
        x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
        if self.temporal and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        out: Tensor = self.conv(x)
        return out


def _resnets(in_channels: int, out_channels: int, count: int, groups: int) -> nn.ModuleList:
    widths = [in_channels, *[out_channels] * count]
    return nn.ModuleList([ResnetBlock(*pair, groups) for pair in pairwise(widths)])


class DownBlock(nn.Module):
    """Residual units, then a downsampler where `temporal` is not None (and says whether time shrinks too)."""

    def __init__(self, in_channels: int, out_channels: int, count: int, groups: int, temporal: bool | None) -> None:
        super().__init__()
        self.resnets = _resnets(in_channels, out_channels, count, groups)
        self.resamples = temporal is not None
        if temporal is not None:
            self.downsamplers = nn.ModuleList([Downsampler(out_channels, temporal=temporal)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T', H', W']."""
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0](x) if self.resamples else x


class UpBlock(nn.Module):
    """Residual units, then an upsampler where `temporal` is not None (and says whether time grows too)."""

    def __init__(self, in_channels: int, out_channels: int, count: int, groups: int, temporal: bool | None) -> None:
        super().__init__()
        self.resnets = _resnets(in_channels, out_channels, count, groups)
        self.resamples = temporal is not None
        if temporal is not None:
            self.upsamplers = nn.ModuleList([Upsampler(out_channels, temporal=temporal)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T', H', W'] -> [B, C', T, H, W]."""
        for resnet in self.resnets:
            x = resnet(x)
        return self.upsamplers[0](x) if self.resamples else x
