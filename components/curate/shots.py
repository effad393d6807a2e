"""From one source to the rows of its clips: decode, cut, chop, crop, score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from zoetrope.components.curate.config import CutConfig
from zoetrope.components.curate.cuts import Shot, find_shots
from zoetrope.components.curate.decode import DamagedVideoError, read_signals
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.perceptual_hash import perceptual_hash
from zoetrope.components.curate.signals import Detail, ShotSignals, SourceSignals, border
from zoetrope.infra.references import Reference, digest_json
from zoetrope.infra.workers import WorkerContext

OPERATORS_VERSION = "1"
"""Part of every clip_id; changes whenever cutting or scoring changes for the same source."""


@dataclass(frozen=True)
class CutTask:
    """One source to cut, and how.

    Attributes:
        source_id: identity of the source.
        video: reference of its bytes.
        max_seconds: longer shots are chopped.
        cuts: the shot detector.
    """

    source_id: str
    video: str
    max_seconds: float
    cuts: CutConfig


@dataclass(frozen=True)
class SourceShots:
    """Rows of clips.parquet without decisions, or the problem that kept the source from being read."""

    rows: list[dict[str, Any]]
    problem: str = ""


def cut_source(task: CutTask, worker_context: WorkerContext) -> SourceShots:
    """Decodes a source once and returns all its clips with their scores."""
    store = worker_context.store
    uri = Reference.parse(task.video).uri
    local = store.local_path(uri)
    path = local or store.fetch(uri, worker_context.scratch / task.source_id)
    try:
        signals = read_signals(path)
    except DamagedVideoError as error:
        return SourceShots([], str(error))
    finally:
        if local is None:
            path.unlink(missing_ok=True)
    rows = []
    for shot in find_shots(signals, task.cuts):
        for piece in chop(shot, signals, task.max_seconds):
            rows.append(_row(piece, signals, task))
    return SourceShots(rows)


def chop(shot: Shot, signals: SourceSignals, max_seconds: float) -> Iterator[Shot]:
    """Pieces of at most `max_seconds`, the last one shorter."""
    longest = Fraction(max_seconds).limit_denominator(1000) / signals.time_base
    start = shot.start
    while start < shot.end:
        limit = signals.pts_at(start) + longest
        # The first frame that begins at the limit opens the next piece.
        later = int(np.searchsorted(signals.pts[: shot.end], int(-(-limit // 1))))
        end = shot.end if signals.pts_at(shot.end) <= limit else max(start + 1, min(later, shot.end))
        yield Shot(start, end)
        start = end


def _row(shot: Shot, signals: SourceSignals, task: CutTask) -> dict[str, Any]:
    """One row of clips.parquet, without decision."""
    start_pts, end_pts = signals.pts_at(shot.start), signals.pts_at(shot.end)
    start, end = start_pts * signals.time_base, end_pts * signals.time_base
    span = {"start": _rational(start), "end": _rational(end)}
    details = [signals.details[n] for n in range(shot.start, shot.end) if n in signals.details]
    x, y, width, height = crop(details, signals.width, signals.height)
    bars_area = 1 - width * height / (signals.width * signals.height)
    if details and all(detail.dark_rows.all() for detail in details):
        bars_area = 1.0
    frames = shot.end - shot.start
    fps = float(frames / (end - start))
    part = ShotSignals(
        change=signals.change[shot.start + 1 : shot.end],
        change_over_two=signals.change_over_two[shot.start + 2 : shot.end],
        thumbs=signals.thumbs[shot.start : shot.end],
        details=details,
        fps=fps,
        bars_area=bars_area,
    )
    scores: dict[str, float] = {}
    for filter_ in FilterSettings().table().values():
        scores |= filter_.score(part)
    return {
        "clip_id": digest_json([task.source_id, span["start"], span["end"], OPERATORS_VERSION]),
        "source_id": task.source_id,
        "video": task.video,
        **span,
        "seconds": float(end - start),
        "start_pts": start_pts,
        "end_pts": end_pts,
        "time_base": _rational(signals.time_base),
        "frames": frames,
        "fps": fps,
        "width": signals.width,
        "height": signals.height,
        "crop_x": x,
        "crop_y": y,
        "crop_width": width,
        "crop_height": height,
        **scores,
        "perceptual_hash": perceptual_hash(part.thumbs),
    }


def crop(details: list[Detail], width: int, height: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the picture without black borders, source pixels, all even.

    A line is border where it is dark in every measured frame of the clip.
    """
    if not details:
        return 0, 0, width, height
    shape = (len(details[0].dark_rows), len(details[0].dark_columns))
    details = [item for item in details if (len(item.dark_rows), len(item.dark_columns)) == shape]
    top, bottom = border(np.logical_and.reduce([item.dark_rows for item in details]))
    left, right = border(np.logical_and.reduce([item.dark_columns for item in details]))
    down, across = height / shape[0], width / shape[1]
    y, x = (_even_up(lines * scale) for lines, scale in ((top, down), (left, across)))
    below, beside = (_even_up(lines * scale) for lines, scale in ((bottom, down), (right, across)))
    # Without a border the picture stays whole, also where its sides are odd.
    kept_height = height if not (y or below) else (height - y - below) // 2 * 2
    kept_width = width if not (x or beside) else (width - x - beside) // 2 * 2
    if kept_width < 2 or kept_height < 2:
        return 0, 0, width, height
    return x, y, kept_width, kept_height


def _even_up(pixels: float) -> int:
    return 2 * int(np.ceil(pixels / 2))


def _rational(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"
