"""The one decode pass over a video."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoetrope.components.curate.signals import (
    DETAILS_PER_SECOND,
    HISTOGRAM_BINS,
    LONG_SIDE,
    THUMB,
    Bytes,
    Detail,
    Floats,
    SourceSignals,
    measure_detail,
)

BATCH = 64
"""Frames measured together: long enough for numpy, short enough for the processor's cache."""


class DamagedVideoError(ValueError):
    """A video that cannot be decoded to its end."""


class UnreadVideoError(DamagedVideoError):
    """A video that the system did not let us read; another attempt may."""


def read_signals(path: Path) -> SourceSignals:
    """Decodes a video once and measures every frame; memory grows by about 1 kB a frame.

    Raises:
        DamagedVideoError: decoding fails, or there is no frame; the message names no path, since products keep it.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DamagedVideoError("damaged: there is no video stream")
            track = container.streams.video[0]
            track.codec_context.thread_count = 1
            meter = _Meter(float(track.average_rate or 25))
            last_duration = 0
            for frame in container.decode(track):
                # Frames out of order would make cuts without time between them.
                if frame.pts is None or (meter.pts and frame.pts <= meter.pts[-1]):
                    continue
                meter.add(frame)
                last_duration = int(frame.duration or 0)
            return meter.finish(Fraction(track.time_base), last_duration)
    except av.FFmpegError as error:
        kind = UnreadVideoError if isinstance(error, OSError | MemoryError) else DamagedVideoError
        raise kind(f"damaged: {error.strerror}") from error


class _Meter:
    """Collects frames into batches and measures them."""

    def __init__(self, fps: float) -> None:
        from av.video.reformatter import VideoReformatter

        self.every = max(1, round(fps / DETAILS_PER_SECOND))
        self.reformatter = VideoReformatter()
        self.pts: list[int] = []
        self.size = (0, 0)
        self.planes: list[tuple[Bytes, Bytes, Bytes]] = []
        self.last = np.zeros((0, 3, THUMB, THUMB), np.float32)
        self.last_histogram = np.zeros((0, HISTOGRAM_BINS), np.float32)
        self.columns: list[tuple[Floats, Floats, Floats, Bytes]] = []
        self.details: dict[int, Detail] = {}
        self.averages: dict[tuple[int, int], Floats] = {}

    def add(self, frame: Any) -> None:
        """Takes a decoded frame."""
        if not self.pts:
            self.size = (frame.width, frame.height)
        planes = self._planes(frame)
        if self.planes and planes[0].shape != self.planes[-1][0].shape:
            self._measure()  # a video may change its size; a batch has one
        if len(self.pts) % self.every == 0:
            self.details[len(self.pts)] = measure_detail(planes[0])
        self.pts.append(int(frame.pts))
        self.planes.append(planes)
        if len(self.planes) == BATCH:
            self._measure()

    def finish(self, time_base: Fraction, last_duration: int) -> SourceSignals:
        """All measurements."""
        if not self.pts:
            raise DamagedVideoError("damaged: not one frame can be decoded")
        if self.planes:
            self._measure()
        change, over_two, histogram, thumbs = (np.concatenate(parts) for parts in zip(*self.columns, strict=True))
        typical = int(np.median(np.diff(self.pts))) if len(self.pts) > 1 else 1
        return SourceSignals(
            pts=np.asarray(self.pts, np.int64),
            end_pts=self.pts[-1] + (last_duration or typical),
            time_base=time_base,
            width=self.size[0],
            height=self.size[1],
            change=change,
            change_over_two=over_two,
            histogram_change=histogram,
            thumbs=thumbs,
            details=self.details,
        )

    def _planes(self, frame: Any) -> tuple[Bytes, Bytes, Bytes]:
        """Luma and chroma planes at analysis size."""
        scale = min(1.0, LONG_SIDE / max(frame.width, frame.height))
        width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
        if frame.format.name not in ("yuv420p", "yuvj420p") or (width, height) != (frame.width, frame.height):
            frame = self.reformatter.reformat(frame, width=width, height=height, format="yuv420p", interpolation="AREA")
        luma, u, v = (
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].copy()
            for plane in frame.planes
        )
        return luma, u, v

    def _measure(self) -> None:
        """Measures the waiting frames and forgets them."""
        thumbs = np.stack([self._thumbnails([planes[i] for planes in self.planes]) for i in range(3)], 1)
        luma = np.stack([planes[0] for planes in self.planes])
        histograms = _histograms(luma)
        before = np.concatenate([self.last, thumbs])
        ahead = len(before) - len(thumbs)
        change, over_two = (_change(before, step, ahead) for step in (1, 2))
        bins = np.concatenate([self.last_histogram, histograms])
        moved = np.abs(np.diff(bins, axis=0)).sum(1) / 2
        moved = (moved[-len(thumbs) :] if ahead else np.concatenate([[0.0], moved])).astype(np.float32)
        self.columns.append((change, over_two, moved, np.rint(thumbs[:, 0]).astype(np.uint8)))
        self.last, self.last_histogram = before[-2:], bins[-1:]
        self.planes = []

    def _thumbnails(self, planes: list[Bytes]) -> Floats:
        """Area averages, float32 [frames, THUMB, THUMB]."""
        stack = np.stack(planes).astype(np.float32)
        rows, columns = (self._average(side) for side in stack.shape[1:])
        return np.asarray(rows @ stack @ columns.T, np.float32)

    def _average(self, side: int) -> Floats:
        """float32 [THUMB, side]: each row averages its part of `side` pixels, split exactly."""
        key = (side, THUMB)
        if key not in self.averages:
            bounds = np.linspace(0, side, THUMB + 1)
            pixels = np.arange(side)
            parts = [np.clip(np.minimum(pixels + 1, b) - np.maximum(pixels, a), 0, 1) for a, b in pairwise(bounds)]
            self.averages[key] = np.stack([part / part.sum() for part in parts]).astype(np.float32)
        return self.averages[key]


def _histograms(luma: Bytes) -> Floats:
    """Share of the pixels in each luma bin, float32 [frames, HISTOGRAM_BINS]."""
    count = luma.shape[0]
    bins = (luma >> 3).reshape(count, -1).astype(np.int64) + HISTOGRAM_BINS * np.arange(count)[:, None]
    histograms = np.bincount(bins.ravel(), minlength=count * HISTOGRAM_BINS).reshape(count, HISTOGRAM_BINS)
    return np.asarray(histograms / bins.shape[1], np.float32)


def _change(thumbs: npt.NDArray[np.float32], step: int, ahead: int) -> Floats:
    """Sum over the planes of the mean difference to the frame `step` before; 0 where there is none.

    Args:
        thumbs: float32 [frames, 3, THUMB, THUMB], `ahead` of them from the batch before.
        step: 1 or 2.
        ahead: 0 to 2.
    """
    difference = np.abs(thumbs[step:] - thumbs[:-step]).mean((2, 3)).sum(1)
    values = np.concatenate([np.zeros(step, np.float32), difference])[ahead:]
    return np.asarray(values[: len(thumbs) - ahead], np.float32)
