"""Floating-point operations of the autoencoders' encoders and decoders, from configuration and shape of the video.

Exact: convolutions, linear layers and the products of attention, a multiplication with its addition counting 2, as
PyTorch's FlopCounterMode counts them. Norms, activations, shortcuts without weights and biases count nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

from zoetrope.model.autoencoders.base_config import AutoencoderConfig, TilingConfig, tile_lengths
from zoetrope.model.autoencoders.config import DCAEConfig
from zoetrope.model.autoencoders.hunyuan_video.config import HunyuanVideoConfig

Size = tuple[int, int, int]  # frames, height, width


def encoder_flops(
    config: AutoencoderConfig, frames: int, height: int, width: int, tiling: TilingConfig | None = None
) -> int:
    """Operations of encoding one video.

    Args:
        config: of the autoencoder.
        frames: T.
        height: in pixels.
        width: in pixels.
        tiling: the tiles that the video is cut into; None does not cut.

    Raises:
        ValueError: a size that the autoencoder does not take.
    """
    return _of_tiles(config, _encoder, (frames, height, width), tiling)


def decoder_flops(
    config: AutoencoderConfig, frames: int, height: int, width: int, tiling: TilingConfig | None = None
) -> int:
    """Operations of decoding one latent to a video of this size; see `encoder_flops`."""
    return _of_tiles(config, _decoder, (frames, height, width), tiling)


def _of_tiles(
    config: AutoencoderConfig,
    flops: Callable[[AutoencoderConfig, Size], int],
    size: Size,
    tiling: TilingConfig | None,
) -> int:
    config.latent_shape(*size)
    if tiling is None:
        return flops(config, size)
    config.check_tiling(tiling)
    frames = tile_lengths(size[0], tiling.frames, tiling.shared_frames, config.leading_frames)
    heights, widths = (tile_lengths(length, tiling.pixels, tiling.shared_pixels) for length in size[1:])
    return sum(flops(config, tile) for tile in product(frames, heights, widths))


def _encoder(config: AutoencoderConfig, size: Size) -> int:
    if isinstance(config, DCAEConfig):
        return _dc_ae_encoder(config, size)
    if isinstance(config, HunyuanVideoConfig):
        return _hunyuan_encoder(config, size)
    raise ValueError(f"no formula for a {type(config).__name__}")


def _decoder(config: AutoencoderConfig, size: Size) -> int:
    if isinstance(config, DCAEConfig):
        return _dc_ae_decoder(config, size)
    if isinstance(config, HunyuanVideoConfig):
        return _hunyuan_decoder(config, size)
    raise ValueError(f"no formula for a {type(config).__name__}")


def _voxels(size: Size) -> int:
    return size[0] * size[1] * size[2]


def _conv(inputs: int, outputs: int, size: Size, kernel: int = 3) -> int:
    """A cubic convolution with a result of this size; `inputs` are the channels that one output channel sees."""
    return 2 * inputs * outputs * kernel**3 * _voxels(size)


def _hunyuan_sizes(size: Size, temporal: tuple[bool, ...]) -> list[Size]:
    """Sizes after each downsampling, the given one first."""
    sizes = [size]
    for shrinks in temporal:
        frames, height, width = sizes[-1]
        sizes.append(((frames - 1) // 2 + 1 if shrinks else frames, height // 2, width // 2))
    return sizes


def _hunyuan_resnets(channels: int, width: int, count: int, size: Size) -> int:
    shortcut = _conv(channels, width, size, 1) if channels != width else 0
    return _conv(channels, width, size) + shortcut + (2 * count - 1) * _conv(width, width, size)


def _hunyuan_middle(config: HunyuanVideoConfig, size: Size) -> int:
    width, (frames, height, columns) = config.widths[-1], size
    projections = 4 * _conv(width, width, size, 1)
    # every frame attends to itself and the ones before: 1 + 2 + ... + frames pairs of frames
    attention = 4 * width * (height * columns) ** 2 * (frames * (frames + 1) // 2)
    return projections + attention + _hunyuan_resnets(width, width, 2, size)


def _hunyuan_encoder(config: HunyuanVideoConfig, size: Size) -> int:
    widths, latent = config.widths, 2 * config.latent_channels
    sizes = _hunyuan_sizes(size, config.temporal)
    total = _conv(3, widths[0], size)
    for (channels, width), at in zip(pairwise([widths[0], *widths]), sizes, strict=True):
        total += _hunyuan_resnets(channels, width, config.resnets, at)
    total += sum(_conv(width, width, after) for width, after in zip(widths, sizes[1:], strict=False))
    last = sizes[-1]
    return total + _hunyuan_middle(config, last) + _conv(widths[-1], latent, last) + _conv(latent, latent, last, 1)


def _hunyuan_decoder(config: HunyuanVideoConfig, size: Size) -> int:
    widths, latent = config.widths[::-1], config.latent_channels
    # from the pixels back: the decoder's last step is its last entry of `temporal`
    sizes = _hunyuan_sizes(size, config.temporal[::-1])[::-1]
    first = sizes[0]
    total = _conv(latent, latent, first, 1) + _conv(latent, widths[0], first) + _hunyuan_middle(config, first)
    for (channels, width), at in zip(pairwise([widths[0], *widths]), sizes, strict=True):
        total += _hunyuan_resnets(channels, width, config.resnets + 1, at)
    total += sum(_conv(width, width, after) for width, after in zip(widths, sizes[1:], strict=False))
    return total + _conv(widths[-1], 3, size)


def _dc_ae_sizes(config: DCAEConfig, size: Size) -> list[Size]:
    """Size at each stage; a single frame keeps its time."""
    sizes = [size]
    for shrinks in config.temporal:
        frames, height, width = sizes[-1]
        sizes.append((frames // 2 if shrinks and frames > 1 else frames, height // 2, width // 2))
    return sizes


def _dc_ae_blocks(config: DCAEConfig, stage: int, count: int, size: Size) -> int:
    width, head = config.widths[stage], config.head_dim
    if config.blocks[stage] == "ResBlock":
        return count * 2 * _conv(width, width, size)
    total, hidden = width // head * head, width * config.expand_ratio
    # key x value (with its row of ones) and that x query, for the heads of both scales
    attention = 2 * (total // head) * 2 * 2 * (head + 1) * head * _voxels(size)
    context = _conv(width, 3 * total, size, 1) + _conv(1, 3 * total, size, 5) + _conv(head, 3 * total, size, 1)
    local = _conv(width, 2 * hidden, size, 1) + _conv(1, 2 * hidden, size) + _conv(hidden, width, size, 1)
    return count * (context + attention + _conv(2 * total, width, size, 1) + local)


def _dc_ae_encoder(config: DCAEConfig, size: Size) -> int:
    widths, sizes, folded = config.widths, _dc_ae_sizes(config, size), config.encoder_depths[0] == 0
    total = _conv(3, widths[1], sizes[1]) if folded else _conv(3, widths[0], size)
    for stage in range(folded, len(widths)):
        total += _dc_ae_blocks(config, stage, config.encoder_depths[stage], sizes[stage])
        if stage + 1 < len(widths):
            total += _conv(widths[stage], widths[stage + 1], sizes[stage + 1])
    return total + _conv(widths[-1], config.latent_channels, sizes[-1])


def _dc_ae_decoder(config: DCAEConfig, size: Size) -> int:
    widths, sizes, folded = config.widths, _dc_ae_sizes(config, size), config.decoder_depths[0] == 0
    total = _conv(config.latent_channels, widths[-1], sizes[-1])
    for stage in range(folded, len(widths)):
        total += _dc_ae_blocks(config, stage, config.decoder_depths[stage], sizes[stage])
        if stage + 1 < len(widths):
            total += _conv(widths[stage + 1], widths[stage], sizes[stage])
    return total + _conv(widths[1] if folded else widths[0], 3, size)
