"""Blocks of the Video DC-AE, named as in Open-Sora 2.0's state dict.

Shape letters: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Factor = tuple[int, int, int]  # (time, height, width)


class RMSNorm3d(nn.Module):
    """Root mean square norm over channels, with weight and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        scale = torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-5)
        return x * scale * self.weight.view(-1, 1, 1, 1) + self.bias.view(-1, 1, 1, 1)


class ConvLayer(nn.Module):
    """Convolution with zero padding (symmetric in time: not causal), then norm and activation where asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: Factor = (1, 1, 1),
        groups: int = 1,
        bias: bool = True,
        norm: bool = False,
        silu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if norm:
            self.norm = RMSNorm3d(out_channels)
        self.has_norm, self.silu = norm, silu

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T', H', W']."""
        x = self.conv(x)
        if self.has_norm:
            x = self.norm(x)
        return F.silu(x) if self.silu else x


class ResMain(nn.Module):
    """The residual branch of a ResBlock."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, silu=True)
        self.conv2 = ConvLayer(channels, channels, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        out: Tensor = self.conv2(self.conv1(x))
        return out


class Residual(nn.Module):
    """x + main(x)."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        out: Tensor = x + self.main(x)
        return out


class LiteMLA(nn.Module):
    """Multi-scale ReLU linear attention over all voxels (EfficientViT)."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        total = channels // head_dim * head_dim
        self.head_dim = head_dim
        self.qkv = ConvLayer(channels, 3 * total, kernel=1, bias=False)
        multi_scale = nn.Sequential(
            nn.Conv3d(3 * total, 3 * total, 5, padding=2, groups=3 * total, bias=False),
            nn.Conv3d(3 * total, 3 * total, 1, groups=3 * total // head_dim, bias=False),
        )
        self.aggreg = nn.ModuleList([multi_scale])
        self.proj = ConvLayer(2 * total, channels, kernel=1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(scale(qkv) for scale in self.aggreg)], dim=1)
        # heads of (query, key, value) of head_dim channels each; float32 because the sums run over all voxels
        heads = qkv.flatten(2).reshape(len(x), -1, 3 * self.head_dim, x[0, 0].numel()).float()
        query, key, value = heads.chunk(3, dim=2)
        query, key = F.relu(query), F.relu(key)
        value = F.pad(value, (0, 0, 0, 1), value=1.0)  # a row of ones gives the normaliser
        attended = (value @ key.transpose(-1, -2)) @ query
        attended = attended[:, :, :-1] / (attended[:, :, -1:] + 1e-15)
        out: Tensor = self.proj(attended.reshape(len(x), -1, *x.shape[2:]).to(x.dtype))
        return out


class GLUMBConv(nn.Module):
    """Inverted bottleneck with a gate."""

    def __init__(self, channels: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = channels * expand_ratio
        self.inverted_conv = ConvLayer(channels, 2 * hidden, kernel=1, silu=True)
        self.depth_conv = ConvLayer(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.point_conv = ConvLayer(hidden, channels, kernel=1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        value, gate = self.depth_conv(self.inverted_conv(x)).chunk(2, dim=1)
        out: Tensor = self.point_conv(value * F.silu(gate))
        return out


class EfficientViTBlock(nn.Module):
    """Linear attention, then the gated bottleneck, each with a residual."""

    def __init__(self, channels: int, head_dim: int, expand_ratio: int) -> None:
        super().__init__()
        self.context_module = Residual(LiteMLA(channels, head_dim))
        self.local_module = Residual(GLUMBConv(channels, expand_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> same."""
        out: Tensor = self.local_module(self.context_module(x))
        return out


def space_to_channel(x: Tensor, factor: Factor) -> Tensor:
    """[B, C, T, H, W] -> [B, C * product, T/ft, H/fh, W/fw] (pixel-unshuffle in 3D)."""
    batch, channels, frames, height, width = x.shape
    ft, fh, fw = factor
    x = x.reshape(batch, channels, frames // ft, ft, height // fh, fh, width // fw, fw)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def channel_to_space(x: Tensor, factor: Factor) -> Tensor:
    """The inverse of `space_to_channel`."""
    ft, fh, fw = factor
    batch, channels, frames, height, width = x.shape
    x = x.reshape(batch, channels // (ft * fh * fw), ft, fh, fw, frames, height, width)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, frames * ft, height * fh, width * fw)


def average_channels(x: Tensor, channels: int) -> Tensor:
    """[B, C * n, ...] -> [B, C, ...]: the mean of groups of n neighbours."""
    return x.reshape(len(x), channels, -1, *x.shape[2:]).mean(dim=2)


def repeat_channels(x: Tensor, channels: int) -> Tensor:
    """[B, C, ...] -> [B, channels, ...]: every channel repeated, the inverse of `average_channels`."""
    return x.repeat_interleave(channels // x.shape[1], dim=1)


def shrink_by_averaging(x: Tensor, channels: int, factor: Factor) -> Tensor:
    """The shortcut of a downsampling step, without parameters.

    A single frame has no time to shrink (the factor in time is then 1); where its channels do not fit, it is taken
    as a still video instead.

    Args:
        x: [B, C, T, H, W].
        channels: channels wanted; C times the product of `factor` has to be a multiple.
        factor: as for videos.

    Returns:
        [B, channels, T/ft (1 for a single frame), H/fh, W/fw].
    """
    if x.shape[2] == 1 and factor[0] > 1:
        image = (1, *factor[1:])
        if (x.shape[1] * image[1] * image[2]) % channels == 0:
            factor = image
        else:
            x = x.expand(-1, -1, factor[0], -1, -1)
    return average_channels(space_to_channel(x, factor), channels)


def enlarge_by_repeating(x: Tensor, channels: int, factor: Factor, *, single_frame: bool) -> Tensor:
    """The shortcut of an upsampling step, the mirror of `shrink_by_averaging`.

    Args:
        x: [B, C, T, H, W].
        channels: channels wanted; channels times the product of `factor` has to be a multiple of C.
        factor: as for videos.
        single_frame: the video has one frame, so time stays.

    Returns:
        [B, channels, T ft (T for a single frame), H fh, W fw].
    """
    image = (1, *factor[1:])
    if single_frame and (channels * image[1] * image[2]) % x.shape[1] == 0:
        factor = image
    out = channel_to_space(repeat_channels(x, channels * factor[0] * factor[1] * factor[2]), factor)
    return out.mean(dim=2, keepdim=True) if single_frame else out


class DownsampleBlock(nn.Module):
    """Strided convolution with the averaging shortcut."""

    def __init__(self, in_channels: int, out_channels: int, factor: Factor) -> None:
        super().__init__()
        self.main = ConvLayer(in_channels, out_channels)
        self.out_channels, self.factor = out_channels, factor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T/ft, H/fh, W/fw]; a single frame keeps its time."""
        conv = self.main.conv
        stride = (1, *self.factor[1:]) if x.shape[2] == 1 else self.factor
        return F.conv3d(x, conv.weight, conv.bias, stride, 1) + shrink_by_averaging(x, self.out_channels, self.factor)


def enlarge(x: Tensor, factor: Factor, *, single_frame: bool) -> Tensor:
    """Nearest-neighbour enlargement; a single frame keeps its time."""
    scale = [1.0 if single_frame else float(factor[0]), float(factor[1]), float(factor[2])]
    return F.interpolate(x, scale_factor=scale, mode="nearest")


class EnlargingConv(nn.Module):
    """The convolution of an upsampling step, one level deeper in the state dict than that of a downsampling step."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvLayer(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T, H, W]."""
        out: Tensor = self.conv(x)
        return out


class UpsampleBlock(nn.Module):
    """Enlargement and convolution with the repeating shortcut."""

    def __init__(self, in_channels: int, out_channels: int, factor: Factor) -> None:
        super().__init__()
        self.main = EnlargingConv(in_channels, out_channels)
        self.out_channels, self.factor = out_channels, factor

    def forward(self, x: Tensor, *, single_frame: bool) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T ft, H fh, W fw]; a single frame keeps its time."""
        main: Tensor = self.main(enlarge(x, self.factor, single_frame=single_frame))
        return main + enlarge_by_repeating(x, self.out_channels, self.factor, single_frame=single_frame)
