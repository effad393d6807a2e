"""The Video DC-AE (deep-compression autoencoder): deterministic, without KL, not causal in time.

Every change of resolution has a shortcut without parameters (space to channel and averaging one way, repeating and
channel to space the other way), so that the network learns a residual to a plain averaging code. Without them a
short training does not even find the colours.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from zoetrope.model.autoencoders.blocks import (
    ConvLayer,
    DownsampleBlock,
    EfficientViTBlock,
    Factor,
    Residual,
    ResMain,
    RMSNorm3d,
    UpsampleBlock,
    average_channels,
    enlarge,
    enlarge_by_repeating,
    repeat_channels,
)
from zoetrope.model.autoencoders.config import BlockKind, DCAEConfig
from zoetrope.model.autoencoders.interface import VideoAutoencoder


def _block(kind: BlockKind, channels: int, config: DCAEConfig) -> nn.Module:
    if kind == "ResBlock":
        return Residual(ResMain(channels))
    return EfficientViTBlock(channels, config.head_dim, config.expand_ratio)


def _factor(temporal: bool) -> Factor:
    return (2 if temporal else 1, 2, 2)


class Stage(nn.Module):
    """Operations in sequence, under the name `op_list`."""

    def __init__(self, operations: list[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(operations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, C', T', H', W']."""
        for operation in self.op_list:
            x = operation(x)
        return x


class LatentProjection(nn.Module):
    """Last convolution of the encoder with the averaging shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = Stage([ConvLayer(in_channels, out_channels)])
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, latent channels, T, H, W]."""
        out: Tensor = self.main(x) + average_channels(x, self.out_channels)
        return out


class Encoder(nn.Module):
    """Video to latent."""

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__()
        widths, depths = config.widths, config.encoder_depths
        folded = depths[0] == 0
        self.project_in: nn.Module = (
            DownsampleBlock(3, widths[1], _factor(config.temporal[0])) if folded else ConvLayer(3, widths[0])
        )
        stages = []
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            operations = [_block(config.blocks[index], width, config) for _ in range(depth)]
            if index + 1 < len(widths) and not (index == 0 and folded):
                operations.append(DownsampleBlock(width, widths[index + 1], _factor(config.temporal[index])))
            stages.append(Stage(operations))
        self.stages = nn.ModuleList(stages)
        self.project_out = LatentProjection(widths[-1], config.latent_channels)

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, latent channels, T', H', W']."""
        x = self.project_in(video)
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.project_out(x)
        return out


class LatentExpansion(nn.Module):
    """First convolution of the decoder with the repeating shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = ConvLayer(in_channels, out_channels)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, latent channels, T, H, W] -> [B, C, T, H, W]."""
        out: Tensor = self.main(x) + repeat_channels(x, self.out_channels)
        return out


class PixelProjection(nn.Module):
    """Norm, ReLU and convolution to pixels; with a folded first stage it makes the last enlargement too."""

    def __init__(self, channels: int, factor: Factor | None) -> None:
        super().__init__()
        self.op_list = nn.ModuleList([RMSNorm3d(channels), nn.ReLU(), ConvLayer(channels, 3)])
        self.factor = factor

    def forward(self, x: Tensor, *, single_frame: bool) -> Tensor:
        """[B, C, T, H, W] -> [B, 3, T ft, H fh, W fw]."""
        norm, activation, conv = self.op_list
        hidden: Tensor = activation(norm(x))
        if self.factor is None:
            out: Tensor = conv(hidden)
            return out
        main: Tensor = conv(enlarge(hidden, self.factor, single_frame=single_frame))
        return main + enlarge_by_repeating(x, 3, self.factor, single_frame=single_frame)


class Decoder(nn.Module):
    """Latent to video."""

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__()
        widths, depths = config.widths, config.decoder_depths
        folded = depths[0] == 0
        self.project_in = LatentExpansion(config.latent_channels, widths[-1])
        stages = []
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            operations: list[nn.Module] = []
            if index + 1 < len(widths) and not (index == 0 and folded):
                operations.append(UpsampleBlock(widths[index + 1], width, _factor(config.temporal[index])))
            operations += [_block(config.blocks[index], width, config) for _ in range(depth)]
            stages.append(Stage(operations))
        self.stages = nn.ModuleList(stages)
        self.project_out = PixelProjection(
            widths[1] if folded else widths[0], _factor(config.temporal[0]) if folded else None
        )

    def _operations(self) -> Iterator[nn.Module]:
        """From the latent to the pixels."""
        for stage in reversed(list(self.stages)):
            if isinstance(stage, Stage):
                yield from stage.op_list

    def forward(self, latent: Tensor, *, single_frame: bool) -> Tensor:
        """[B, latent channels, T', H', W'] -> [B, 3, T, H, W]."""
        x = self.project_in(latent)
        for operation in self._operations():
            resamples = isinstance(operation, UpsampleBlock)
            x = operation(x, single_frame=single_frame) if resamples else operation(x)
        out: Tensor = self.project_out(x, single_frame=single_frame)
        return out


SHORTCUT_MODULES = (DownsampleBlock, UpsampleBlock, LatentProjection, LatentExpansion, PixelProjection)


class VideoDCAE(VideoAutoencoder):
    """Encoder and decoder of the Video DC-AE; deterministic."""

    config: DCAEConfig

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def initialise(self, seed: int) -> VideoDCAE:
        """Fills all weights from a seed: truncated normal of standard deviation 0.02, biases zero.

        What is added to a shortcut (resampling convolutions, and the norm that ends a residual branch) starts at
        zero, so that training begins at the plain averaging code and learns what to add to it.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, SHORTCUT_MODULES) and getattr(module, "factor", ()) is not None:
                for part in module.modules():
                    if isinstance(part, nn.Conv3d):
                        nn.init.zeros_(part.weight)
            elif isinstance(module, Residual):
                for part in module.main.modules():
                    if isinstance(part, RMSNorm3d):
                        nn.init.zeros_(part.weight)
        return self

    def _encode_tile(self, video: Tensor) -> Tensor:
        out: Tensor = self.encoder(video)
        return out

    def _decode_tile(self, latent: Tensor, *, single_frame: bool) -> Tensor:
        out: Tensor = self.decoder(latent, single_frame=single_frame)
        return out
