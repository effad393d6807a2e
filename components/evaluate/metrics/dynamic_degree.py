"""How many videos move at all.

VBench's rule with block matching in place of RAFT: a pair of frames moves when the mean displacement of the
fastest 5 % exceeds 6 pixels per 256 pixels of the short side; a video moves when round(4 n / 16) of its n - 1
pairs do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult, mean_result

if TYPE_CHECKING:
    import numpy.typing as npt

# About this many cells on the short side: the rule is relative to the frame's size, coarse pixels suffice.
GRID = 64
BLOCK = 8
RADIUS = 4
FASTEST_SHARE = 0.05
# Another displacement has to fit better than none by this much (mean absolute difference of 8-bit luma), so
# that flat areas and noise stand still.
MARGIN = 2.0


def _measure(inputs: MetricInputs) -> MetricResult:
    return mean_result(inputs, "dynamic_degree", [float(moves(sample.frames)) for sample in inputs.samples])


def moves(frames: npt.NDArray[np.uint8]) -> bool:
    """Whether a video moves, by the rule above.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
    """
    stride = max(1, min(frames.shape[1:3]) // GRID)
    luma = frames[:, ::stride, ::stride].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    height, width = (side - side % BLOCK for side in luma.shape[1:])
    if len(luma) < 2 or not height or not width:
        return False
    speed = _displacement(luma[:, :height, :width])
    count = max(1, round(FASTEST_SHARE * speed.shape[1]))
    fastest = np.sort(speed, axis=1)[:, -count:].mean(axis=1)
    threshold = 6.0 * min(height, width) / 256.0
    return int((fastest > threshold).sum()) >= max(1, round(4 * len(frames) / 16))


def _displacement(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Length of the displacement that fits each block best, [T-1, blocks], in cells."""
    first = luma[:-1]
    height, width = luma.shape[1:]
    padded = np.pad(luma[1:], ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="edge")
    best = _block_error(first, luma[1:]) - MARGIN
    length = np.zeros_like(best)
    for dy in range(-RADIUS, RADIUS + 1):
        for dx in range(-RADIUS, RADIUS + 1):
            top, left = RADIUS + dy, RADIUS + dx
            error = _block_error(first, padded[:, top : top + height, left : left + width])
            length[error < best] = np.hypot(dx, dy)
            best = np.minimum(best, error)
    return length


def _block_error(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean absolute difference of each block, [T-1, blocks]."""
    pairs, height, width = first.shape
    blocks = np.abs(first - second).reshape(pairs, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    error: npt.NDArray[np.float32] = np.einsum("tybxc->tyx", blocks) / np.float32(BLOCK * BLOCK)
    return error.reshape(pairs, -1)


METRIC = Metric("dynamic_degree", True, "share of videos that move (block matching, not VBench's score)", _measure)
