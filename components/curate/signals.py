"""What the decode pass keeps of a video: small numbers for every frame, a little more for four frames a second."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

THUMB = 32
"""Side of the thumbnail on which change is measured; averaging over its cells is the low-pass filter."""
LONG_SIDE = 160
"""Longest side of the picture on which details are measured, so that scores do not depend on resolution."""
DETAILS_PER_SECOND = 4
"""Frames a second on which details are measured: a clip of 2 s has at least five."""
HISTOGRAM_BINS = 32
BLACK = 30
"""Mean luma of a black row: 16 in television range, plus noise."""
HARD_EDGE = 70
"""Step of luma between neighbours that only overlays and very sharp contrasts reach."""


@dataclass(frozen=True)
class Detail:
    """Measurements of one frame at analysis size.

    Attributes:
        sharpness: variance of the Laplacian inside of black borders, squared 8-bit levels.
        edges: bits of `hard_edges`.
        dark_rows: bool [height].
        dark_columns: bool [width].
    """

    sharpness: float
    edges: Bytes
    dark_rows: npt.NDArray[np.bool_]
    dark_columns: npt.NDArray[np.bool_]

    @property
    def hard_edges(self) -> npt.NDArray[np.bool_]:
        """Where luma jumps from one pixel to the next in its row, bool [height, width]."""
        height, width = len(self.dark_rows), len(self.dark_columns)
        return np.unpackbits(self.edges, count=height * width).reshape(height, width).astype(bool)


@dataclass(frozen=True)
class SourceSignals:
    """A decoded video.

    Attributes:
        pts: int64 [N], presentation times in steps of `time_base`, ascending.
        end_pts: when the last frame is over.
        time_base: seconds per step.
        width: source pixels.
        height: source pixels.
        change: float32 [N], mean change of luma and chroma thumbnails from the frame before, 8-bit levels; 0 first.
        change_over_two: float32 [N], the same from two frames before; 0 for the first two.
        histogram_change: float32 [N], share of the pixels whose luma bin changed from the frame before.
        thumbs: uint8 [N, THUMB, THUMB], luma.
        details: frame number -> measurements.
    """

    pts: npt.NDArray[np.int64]
    end_pts: int
    time_base: Fraction
    width: int
    height: int
    change: Floats
    change_over_two: Floats
    histogram_change: Floats
    thumbs: Bytes
    details: dict[int, Detail]

    def pts_at(self, frame: int) -> int:
        """When `frame` begins; the number of frames stands for the end of the video."""
        return int(self.pts[frame]) if frame < len(self.pts) else self.end_pts


@dataclass(frozen=True)
class ShotSignals:
    """The part of the signals that belongs to one clip of n frames; filters score it.

    Attributes:
        change: float32 [n - 1], from frame to frame inside of the clip.
        change_over_two: float32 [n - 2].
        thumbs: uint8 [n, THUMB, THUMB].
        details: measurements in order of time.
        fps: mean number of frames a second.
        bars_area: share of the picture that is black border, 0 to 1.
    """

    change: Floats
    change_over_two: Floats
    thumbs: Bytes
    details: list[Detail]
    fps: float
    bars_area: float

    def five(self) -> list[Detail]:
        """Up to five measured frames, evenly spread over the clip."""
        if len(self.details) <= 5:
            return self.details
        return [self.details[i] for i in np.linspace(0, len(self.details) - 1, 5).round().astype(int)]


def measure_detail(luma: Bytes) -> Detail:
    """Measures one frame.

    Args:
        luma: uint8 [height, width] at analysis size.
    """
    level = luma.astype(np.float32)
    dark_rows, dark_columns = level.mean(1) < BLACK, level.mean(0) < BLACK
    top, bottom = border(dark_rows)
    left, right = border(dark_columns)
    inside = level[top : len(dark_rows) - bottom, left : len(dark_columns) - right]
    edges = np.zeros(luma.shape, bool)
    edges[:, 1:] = np.abs(np.diff(level, axis=1)) > HARD_EDGE
    return Detail(_sharpness(inside), np.packbits(edges), dark_rows, dark_columns)


def _sharpness(level: Floats) -> float:
    """Variance of the four-neighbour Laplacian, away from the border."""
    if min(level.shape) < 7:
        return 0.0
    level = level[2:-2, 2:-2]
    centre = level[1:-1, 1:-1]
    laplacian = level[:-2, 1:-1] + level[2:, 1:-1] + level[1:-1, :-2] + level[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def border(dark: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """How many dark lines there are at the beginning and at the end; (0, 0) where all are dark."""
    bright = np.flatnonzero(~dark)
    return (int(bright[0]), int(len(dark) - 1 - bright[-1])) if len(bright) else (0, 0)
