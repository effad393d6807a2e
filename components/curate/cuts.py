"""Finds shots: hard cuts by an adaptive threshold, dissolves by their linearity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zoetrope.components.curate.cut_config import CutConfig
from zoetrope.components.curate.signals import Floats, SourceSignals

HISTOGRAM_WEIGHT = 40.0
"""8-bit levels that a complete change of the histogram counts as: as much as a cut changes the picture."""


@dataclass(frozen=True)
class Shot:
    """Frames [start, end) of a source."""

    start: int
    end: int


def find_shots(signals: SourceSignals, config: CutConfig) -> list[Shot]:
    """Shots in order. Frames inside of a dissolve belong to no shot."""
    total = len(signals.pts)
    bounds = [0, *hard_cuts(signals, config), total]
    shots = []
    for start, end in pairwise(bounds):
        position = start
        for first, last in _dissolves(signals.thumbs[start:end], config):
            if start + first > position:
                shots.append(Shot(position, start + first))
            position = start + last
        if end > position:
            shots.append(Shot(position, end))
    return shots


def hard_cuts(signals: SourceSignals, config: CutConfig) -> list[int]:
    """Numbers of the frames that are the first of a new shot."""
    difference = signals.change + HISTOGRAM_WEIGHT * signals.histogram_change
    # Where frames were dropped, more happens from one to the next: change is taken per usual time between frames.
    steps = np.diff(signals.pts, prepend=signals.pts[0]).astype(np.float32)
    difference /= np.maximum(steps / max(1.0, float(np.median(steps))), 1)
    usual = _neighbourhood(difference, config.window)
    cut = (difference >= config.minimum) & (difference >= config.ratio * usual)
    cut[0] = False
    return [int(frame) for frame in np.flatnonzero(cut)]


def _neighbourhood(values: Floats, window: int) -> Floats:
    """Mean of up to `window` values on each side of a value, itself left out.

    The first value is no difference at all and counts for nothing.
    """
    known = np.ones(len(values), np.float32)
    known[0] = 0
    kernel = np.ones(2 * window + 1, np.float32)
    kernel[window] = 0
    total = np.convolve(values * known, kernel)[window : window + len(values)]
    count = np.convolve(known, kernel)[window : window + len(values)]
    return (total / np.maximum(count, 1)).astype(np.float32)


def _dissolves(thumbs: npt.NDArray[np.uint8], config: CutConfig) -> list[tuple[int, int]]:
    """Dissolves inside of one shot as [first mixed frame, first frame after).

    Half way through a dissolve the picture is the mean of those before and after it, everywhere at once; no motion
    of objects or camera does that.
    """
    reach = config.dissolve_frames // 2 + 1
    count = len(thumbs)
    if config.dissolve_frames == 0 or count < 2 * reach + 1:
        return []
    pictures = thumbs.reshape(count, -1).astype(np.float32)
    centres = np.arange(reach, count - reach)
    # Motion is least mistaken for anything when the span just covers the dissolve, whose length is not known.
    spans = sorted({max(2, reach // 2), max(2, reach * 3 // 4), reach})
    off = np.min([_nonlinearity(pictures, centres, half, config.dissolve_minimum) for half in spans], axis=0)
    found: list[tuple[int, int]] = []
    # Best first; each hides the candidates around it, which see the same dissolve off its centre.
    for index in np.argsort(off, kind="stable"):
        if off[index] > config.dissolve_linearity:
            break
        centre = int(centres[index])
        if any(first - reach <= centre < last + reach for first, last in found):
            continue
        half = _half_length(pictures, centre, reach)
        found.append((centre - half + 1, centre + half))
    return sorted(found)


def _nonlinearity(pictures: Floats, centres: npt.NDArray[np.int64], half: int, minimum: float) -> Floats:
    """How far each centre is from the mean of the frames `half` around it, as a share of the change between them.

    Infinite where they differ by less than `minimum`.
    """
    change = _span_change(pictures, centres, half)
    mean = (pictures[centres - half] + pictures[centres + half]) / 2
    off = np.abs(pictures[centres] - mean).mean(1)
    return np.where(change >= minimum, off / np.maximum(change, 1e-6), np.inf).astype(np.float32)


def _span_change(pictures: Floats, centres: npt.NDArray[np.int64], half: int) -> Floats:
    """Mean difference between the frames `half` before and after each centre."""
    difference: Floats = np.abs(pictures[centres - half] - pictures[centres + half]).mean(1)
    return difference


def _half_length(pictures: Floats, centre: int, reach: int) -> int:
    """Frames from the centre to where the change is complete."""
    spans = [float(_span_change(pictures, np.asarray([centre]), half)[0]) for half in range(1, reach + 1)]
    # What goes on changing outside of the dissolve is motion; 0.9 keeps it from lengthening the dissolve.
    complete = next(half for half, span in enumerate(spans, 1) if span >= 0.9 * max(spans))
    return min(complete + 1, reach)
