"""Sizes of pictures: a nominal resolution and an aspect ratio to height and width in pixels (released code).

The same rule makes the buckets of training and the size of a video to generate. Training then moves one step of the
grid along one side where that brings the area nearer to the nominal one; inference does without.
"""

from __future__ import annotations

import math
import re

# Ratios of width to height; 5:8 stands for itself and its transpose 8:5, which the rule would round to another size.
ASPECTS = ("2.39:1", "2:1", "16:9", "1.85:1", "5:8", "3:2", "4:3", "1:1")

GRID = 16  # pixels: the HunyuanVideo autoencoder's 8 times patch 2
DC_AE_GRID = 32  # pixels: the Video DC-AE's 32 times patch 1


def nominal_area(resolution: str) -> int:
    """Pixels of a nominal resolution: `256px`, `768px`, `1024px` and any other `Npx` are N x N.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})px", resolution)
    if match is None:
        raise ValueError(f"resolution has to look like 256px, 768px or 1024px, not {resolution!r}")
    return int(match[1]) ** 2


def parse_aspect(aspect: str) -> float:
    """Width over height of `W:H`, e.g. `16:9`.

    Raises:
        ValueError: another form, or longer than 4:1, where the rule was never meant to hold.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", aspect)
    ratio = float(match[1]) / float(match[2]) if match is not None and float(match[2]) else 0.0
    if not 1 / 4 <= ratio <= 4:
        raise ValueError(f"aspect has to be WIDTH:HEIGHT between 1:4 and 4:1, e.g. 16:9, not {aspect!r}")
    return ratio


def picture_size(area: int, aspect: str, grid: int = GRID, *, adjust: bool) -> tuple[int, int]:
    """Height and width of an aspect ratio.

    width = floor(sqrt(area ratio) / grid) grid, height = floor(area / width / grid) grid. A ratio that does not stand
    in `ASPECTS` but whose transpose does has that one's size, transposed.

    Args:
        area: nominal number of pixels.
        aspect: `W:H`.
        grid: both sides are multiples of it.
        adjust: take the neighbour on the grid, one step along one side, whose area is nearest (training).

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: no such aspect, or an area too small for the grid.
    """
    transposed = ":".join(reversed(aspect.split(":")))
    ratio = parse_aspect(aspect)
    if transposed in ASPECTS and aspect not in ASPECTS:
        width, height = picture_size(area, transposed, grid, adjust=adjust)
        return height, width
    width = int(math.sqrt(area * ratio) / grid) * grid
    height = int(area / width / grid) * grid if width else 0
    if not height:
        raise ValueError(f"{area} pixels at {aspect} are less than one step of {grid} pixels along a side")
    if not adjust:
        return height, width
    sizes = [(height, width), (height - grid, width), (height + grid, width)]
    sizes += [(height, width - grid), (height, width + grid)]
    return min(sizes, key=lambda size: abs(size[0] * size[1] - area))  # of equally near ones the first


def training_sizes(area: int, grid: int = GRID) -> dict[str, tuple[int, int]]:
    """Aspect -> (height, width) of the buckets of a resolution; sizes that come twice keep their first name.

    Every landscape size has its transpose beside it.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for aspect in ASPECTS:
        for name in (aspect, ":".join(reversed(aspect.split(":")))):
            size = picture_size(area, name, grid, adjust=True)
            if size not in sizes.values():
                sizes[name] = size
    return sizes
