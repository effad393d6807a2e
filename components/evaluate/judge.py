"""Reads the colour and the motion of the object off the pixels of a video.

The videos of the small recipe show one saturated object over a greyish background. The judge never sees the
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# Hue angles in degrees of the colour words (HSV colour wheel); brown, white, grey and black have no hue.
HUES: dict[str, float] = {
    "red": 0.0,
    "orange": 30.0,
    "yellow": 57.0,
    "green": 120.0,
    "cyan": 185.0,
    "blue": 225.0,
    "purple": 275.0,
    "magenta": 305.0,
    "pink": 330.0,
}
# Unit vectors in image coordinates: x grows to the right, y grows downwards.
DIRECTIONS: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

# Chroma (largest minus smallest channel, 0 to 255) below this is texture or noise of the codec.
MINIMUM_CHROMA = 45.0
# The object must cover this share of the pixels of the video, else there is none.
MINIMUM_AREA = 0.004
# The fitted path of the centroid must be this long, as a share of the frame's side, else nothing moved.
MINIMUM_PATH = 0.06
# Frames in which the object is seen; a line through fewer points is no motion.
MINIMUM_FRAMES = 4


@dataclass(frozen=True)
class Judgement:
    """What the judge saw.

    Attributes:
        color: one of the candidates, or empty when there is no saturated object.
        direction: one of the candidates, or empty when nothing moved.
        area: share of all pixels that belong to the object, 0 to 1.
        path: (x, y) displacement of the centroid from first to last frame as a share of width and height.
    """

    color: str
    direction: str
    area: float
    path: tuple[float, float]


def judge(frames: npt.NDArray[np.uint8], colors: Sequence[str], directions: Sequence[str]) -> Judgement:
    """Names the dominant colour and the direction of motion of the object in a video.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        colors: colour words to choose from, keys of `HUES`.
        directions: direction words to choose from, keys of `DIRECTIONS`.

    Returns:
        The judgement; `color` and `direction` are empty strings where they cannot be determined.
    """
    red, green, blue = (frames[..., channel] for channel in range(3))
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    # Half of the strongest chroma separates the object from tinted texture, however pale the model paints.
    strongest = int(np.searchsorted(np.cumsum(np.bincount(chroma.ravel(), minlength=256)), 0.99 * chroma.size))
    mask = chroma >= max(MINIMUM_CHROMA, strongest / 2)
    if not colors or float(mask.mean()) < MINIMUM_AREA:
        return Judgement("", "", 0.0, (0.0, 0.0))
    strength = chroma[mask].astype(np.float64)
    nearest = _nearest_hue(_hue(frames[mask]), colors)
    best = int(np.bincount(nearest, weights=strength, minlength=len(colors)).argmax())
    weight = np.zeros(chroma.shape)
    weight[mask] = np.where(nearest == best, strength, 0.0)
    path = _path(weight)
    return Judgement(colors[best], _direction(path, directions), float((weight > 0).mean()), path)


def _hue(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Hue of the HSV model in degrees, [N], of saturated pixels [N, 3]."""
    red, green, blue = pixels.astype(np.float64).T
    chroma = pixels.max(axis=-1).astype(np.float64) - pixels.min(axis=-1)
    top = pixels.argmax(axis=-1)
    sector = np.select(
        [top == 0, top == 1],
        [(green - blue) / chroma, (blue - red) / chroma + 2.0],
        (red - green) / chroma + 4.0,
    )
    hue: npt.NDArray[np.float64] = (sector * 60.0) % 360.0
    return hue


def _nearest_hue(hue: npt.NDArray[np.float64], colors: Sequence[str]) -> npt.NDArray[np.intp]:
    """Index of the candidate whose hue is nearest on the circle."""
    distances = [np.abs((hue - HUES[color] + 180.0) % 360.0 - 180.0) for color in colors]
    nearest: npt.NDArray[np.intp] = np.stack(distances).argmin(axis=0)
    return nearest


def _path(weight: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Displacement of the weighted centroid, by a straight line fitted to all frames that show the object."""
    frames, height, width = weight.shape
    mass = weight.sum(axis=(1, 2))
    seen = np.flatnonzero(mass > 0.1 * mass.max())
    if len(seen) < MINIMUM_FRAMES:
        return (0.0, 0.0)
    x = (weight.sum(axis=1) @ np.arange(width))[seen] / mass[seen] / width
    y = (weight.sum(axis=2) @ np.arange(height))[seen] / mass[seen] / height
    slope_x, slope_y = (float(np.polyfit(seen, values, 1)[0]) * (frames - 1) for values in (x, y))
    return (slope_x, slope_y)


def _direction(path: tuple[float, float], directions: Sequence[str]) -> str:
    """The candidate that the displacement points to, empty when the object stays where it is."""
    if not directions or float(np.hypot(*path)) < MINIMUM_PATH:
        return ""
    return max(directions, key=lambda name: path[0] * DIRECTIONS[name][0] + path[1] * DIRECTIONS[name][1])
