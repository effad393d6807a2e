"""HunyuanVideo's causal 3D variational autoencoder: 4x in time, 8x in space, 16 channels.

Its sums run over more than a voxel's neighbourhood: group norms over all frames, attention over all earlier ones. So a
tile of a video gives other latents than the whole (with random weights 17 and 9 frames differ by 7.6 % in the three
latent frames that they share); how much is measured in docs/benchmarks.md.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zoetrope.model.autoencoders.hunyuan_video.blocks import EPSILON, CausalConv3d, DownBlock, MiddleBlock, UpBlock
from zoetrope.model.autoencoders.hunyuan_video.config import HunyuanVideoConfig
from zoetrope.model.autoencoders.interface import PIXEL_CHANNELS, VideoAutoencoder

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # released code; beyond it a standard deviation in float32 means nothing


class Encoder(nn.Module):
    """Video to the moments of the posterior, mean and log variance in one tensor."""

    def __init__(self, config: HunyuanVideoConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.groups
        self.conv_in = CausalConv3d(PIXEL_CHANNELS, widths[0])
        self.down_blocks = nn.ModuleList(
            [
                DownBlock(*pair, config.resnets, groups, temporal)
                for pair, temporal in zip(pairwise([widths[0], *widths]), [*config.temporal, None], strict=True)
            ]
        )
        self.mid_block = MiddleBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPSILON)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, 2 C, T', H', W']."""
        x = self.conv_in(video)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """Latent to video."""

    def __init__(self, config: HunyuanVideoConfig) -> None:
        super().__init__()
        widths, groups = config.widths[::-1], config.groups
        self.conv_in = CausalConv3d(config.latent_channels, widths[0])
        self.mid_block = MiddleBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            [
                UpBlock(*pair, config.resnets + 1, groups, temporal)
                for pair, temporal in zip(pairwise([widths[0], *widths]), [*config.temporal, None], strict=True)
            ]
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPSILON)
        self.conv_out = CausalConv3d(widths[-1], PIXEL_CHANNELS)

    def forward(self, latent: Tensor) -> Tensor:
        """[B, C, T', H', W'] -> [B, 3, T, H, W]."""
        x = self.mid_block(self.conv_in(latent))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


class HunyuanVideoVAE(VideoAutoencoder):
    """Encoder, decoder and the 1x1x1 convolutions around the latent; 246,478,803 parameters as released.

    State-dict keys and shapes are those of Open-Sora 2.0's `hunyuan_vae.safetensors`.
    """

    config: HunyuanVideoConfig

    def __init__(self, config: HunyuanVideoConfig) -> None:
        super().__init__(config)
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv3d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv3d(channels, channels, 1)

    def _encode_tile(self, video: Tensor) -> Tensor:
        out: Tensor = self.quant_conv(self.encoder(video))
        return out

    def _decode_tile(self, latent: Tensor, *, single_frame: bool) -> Tensor:
        del single_frame  # being causal, it knows an image by its one latent frame
        out: Tensor = self.decoder(self.post_quant_conv(latent))
        return out

    def _moments(self, encoded: Tensor) -> tuple[Tensor, Tensor | None]:
        mean, log_variance = encoded.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)
