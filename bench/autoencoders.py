"""What tiles cost in exactness and save in memory, for both autoencoders with random weights.

    .venv/bin/python bench/autoencoders.py [--seeds 2] [--released]

Two tables. Error: root mean square of (tiled - untiled) over that of untiled. Seam: the step that the error makes
across the borders of tiles, over the step that the untiled result makes there by itself (below 1 the picture changes
more by itself). Memory: bytes of all tensors alive at once, counted (`zoetrope.model.memory`), beyond weights and
input, at 32 pixels; "whole" is encode or decode without tiles. The video is uniform noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor

from zoetrope.model.autoencoders import (
    AutoencoderConfig,
    DCAEConfig,
    HunyuanVideoConfig,
    TilingConfig,
    build_autoencoder,
)
from zoetrope.model.autoencoders.base_config import tile_lengths
from zoetrope.model.autoencoders.interface import VideoAutoencoder
from zoetrope.model.memory import PeakMemory

HUNYUAN = HunyuanVideoConfig(latent_channels=8, widths=(16, 32, 64, 64), groups=8)
TILES = {"frames": TilingConfig(pixels=0, frames=64), "pixels": TilingConfig(pixels=256)}
NARROW_SHAPES = {"frames": (129, 32), "pixels": (5, 448)}
RELEASED_SHAPES = {"frames": (129, 32), "pixels": (1, 448)}  # what a CPU can do in minutes


def noise(frames: int, pixels: int, seed: int) -> Tensor:
    """[1, 3, T, H, W], uniform in [-1, 1]."""
    return torch.rand(1, 3, frames, pixels, pixels, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def error_and_seam(whole: Tensor, tiled: Tensor, borders: dict[int, list[int]]) -> tuple[float, float]:
    """See the module's description; `borders` are positions by axis."""
    error = tiled - whole
    steps, own = [], []
    for axis, places in borders.items():
        for place in places:
            steps.append(_step(error, axis, place))
            own.append(_step(whole, axis, place))
    return (error.square().mean() / whole.square().mean()).sqrt().item(), mean(steps) / mean(own)


def _step(values: Tensor, axis: int, place: int) -> float:
    return (values.select(axis, place) - values.select(axis, place - 1)).square().mean().sqrt().item()


def borders_of(config: AutoencoderConfig, tiling: TilingConfig, frames: int, pixels: int) -> dict[int, list[int]]:
    """First latent frame and pixel of each tile's overlap with the one before it, by axis of the latent."""
    lead, time, space = config.leading_frames, config.temporal_factor, config.spatial_factor
    count = len(tile_lengths(frames, tiling.frames, tiling.shared_frames, lead))
    times = [lead + at * (tiling.frames - tiling.shared_frames) // time for at in range(1, count)]
    count = len(tile_lengths(pixels, tiling.pixels, tiling.shared_pixels))
    places = [at * (tiling.pixels - tiling.shared_pixels) // space for at in range(1, count)]
    return {axis: found for axis, found in ((2, times), (3, places), (4, places)) if found}


def pixel_borders(config: AutoencoderConfig, latent: dict[int, list[int]]) -> dict[int, list[int]]:
    """The same in frames and pixels."""
    lead, time, space = config.leading_frames, config.temporal_factor, config.spatial_factor
    return {
        axis: [lead + (place - lead) * time if axis == 2 else place * space for place in places]
        for axis, places in latent.items()
    }


@torch.inference_mode()
def print_errors(config: HunyuanVideoConfig, shapes: dict[str, tuple[int, int]], seeds: int) -> None:
    """Rows of the table of errors and seams for one width."""
    for name, (frames, pixels) in shapes.items():
        found: dict[float, list[tuple[float, ...]]] = {}
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = build_autoencoder(config).eval()
            video = noise(frames, pixels, seed)
            latent = model.encode(video)
            decoded = model.decode(latent)
            for overlap in (0.0, 0.25):
                tiling = replace(TILES[name], overlap=overlap, frame_overlap=overlap)
                model.tiling = tiling
                borders = borders_of(config, tiling, frames, pixels)
                found.setdefault(overlap, []).append(
                    error_and_seam(latent, model.encode(video), borders)
                    + error_and_seam(decoded, model.decode(latent), pixel_borders(config, borders))
                )
        for overlap, rows in found.items():
            figures = "|".join(f" {mean(part):.1%} " for part in zip(*rows, strict=True))
            shape = f"{frames} frames of {pixels}x{pixels}"
            print(f"| {config.widths} | {shape} | {name} | {overlap:.0%} |{figures}|", flush=True)


def chunks_of(frames: int, pixels: int, size: int) -> Iterator[Tensor]:
    """A video in chunks, each made when it is asked for."""
    for start in range(0, frames, size):
        yield torch.zeros(1, 3, min(size, frames - start), pixels, pixels)


def latent_chunks(model: VideoAutoencoder, frames: int, pixels: int) -> Iterator[Tensor]:
    """A latent in chunks of two frames."""
    channels, count, height, width = model.latent_shape(frames, pixels, pixels)
    for start in range(0, count, 2):
        yield torch.zeros(1, channels, min(2, count - start), height, width)


@torch.inference_mode()
def print_memory(config: AutoencoderConfig, tiling: TilingConfig, lengths: list[int], pixels: int) -> None:
    """Rows of the table of memory for one autoencoder."""
    model = build_autoencoder(config).eval()
    for frames in lengths:
        video = torch.zeros(1, 3, frames, pixels, pixels)
        latent = torch.zeros(1, *model.latent_shape(frames, pixels, pixels))
        peaks = []
        with PeakMemory() as memory:
            for _ in model.encode_stream(chunks_of(frames, pixels, 8), tiling=tiling):
                pass
        peaks.append(memory.peak)
        with PeakMemory() as memory:
            model.encode(video)
        peaks.append(memory.peak)
        with PeakMemory() as memory:
            for _ in model.decode_stream(latent_chunks(model, frames, pixels), tiling=tiling):
                pass
        peaks.append(memory.peak)
        with PeakMemory() as memory:
            model.decode(latent)
        peaks.append(memory.peak)
        print(f"| {config.kind} | {frames} |" + "|".join(f" {peak / 1e6:.1f} " for peak in peaks) + "|")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--released", action="store_true", help="errors of the released widths too (one seed, slow)")
    options = parser.parse_args()
    torch.set_num_threads(2)
    print("| widths | video | tiles | overlap | encode error | encode seam | decode error | decode seam |")
    print("|---|---|---|---|---|---|---|---|")
    print_errors(HUNYUAN, NARROW_SHAPES, options.seeds)
    if options.released:
        print_errors(HunyuanVideoConfig.open_sora_v2(), RELEASED_SHAPES, 1)
    print("\nMB\n| autoencoder | frames | encode stream | encode whole | decode stream | decode whole |")
    print("|---|---|---|---|---|---|")
    print_memory(DCAEConfig.nano(), TilingConfig(pixels=0, frames=32, frame_overlap=0), [32, 64, 128, 256], 32)
    print_memory(HUNYUAN, TilingConfig(pixels=0, frames=16), [17, 33, 65, 129], 32)


if __name__ == "__main__":
    main()
