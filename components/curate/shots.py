"""From decoded signals to the shots of a source: cut, chop, crop. No filter and no threshold has a part in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from zoetrope.components.curate.cut_config import ShotConfig
from zoetrope.components.curate.cuts import Shot, find_shots
from zoetrope.components.curate.decode import read_signals
from zoetrope.components.curate.signals import Detail, ShotSignals, SourceSignals, border

SHOT_COLUMNS = ("start_pts", "end_pts", "frames", "crop_x", "crop_y", "crop_width", "crop_height")
"""Columns of clips.parquet that `measure_shots` fills; whole numbers."""


def cut_source(
    path: Path, config: ShotConfig, spans: Sequence[Sequence[int]] | None = None
) -> tuple[SourceSignals, list[Shot]]:
    """Decodes a source once and cuts it.

    Args:
        path: of the video.
        config: how it is cut.
        spans: (first PTS, PTS of the end) of the pieces where they are known; they are taken as they are.

    Returns:
        what was decoded, and the shots in order, long ones in pieces.

    Raises:
        DamagedVideoError: it cannot be decoded to its end.
    """
    signals = read_signals(path)
    if spans is not None:
        bounds = np.asarray(spans, np.int64).reshape(-1, 2)
        return signals, [Shot(int(start), int(end)) for start, end in np.searchsorted(signals.pts, bounds)]
    shots = find_shots(signals, config.cuts)
    return signals, [piece for shot in shots for piece in chop(shot, signals, config.max_seconds)]


def measure_shots(signals: SourceSignals, pieces: Sequence[Shot]) -> dict[str, list[int]]:
    """`SHOT_COLUMNS` of all pieces: span in steps of the time base, number of frames, picture without black borders."""
    rows = [
        (
            signals.pts_at(shot.start),
            signals.pts_at(shot.end),
            shot.end - shot.start,
            *crop(_details(signals, shot), signals.width, signals.height),
        )
        for shot in pieces
    ]
    return {name: [row[place] for row in rows] for place, name in enumerate(SHOT_COLUMNS)}


def shot_signals(signals: SourceSignals, shot: Shot) -> ShotSignals:
    """The part of the signals that belongs to a piece: what filters score."""
    details = _details(signals, shot)
    _, _, width, height = crop(details, signals.width, signals.height)
    bars_area = 1 - width * height / (signals.width * signals.height)
    if details and all(detail.dark_rows.all() for detail in details):
        bars_area = 1.0
    seconds = (signals.pts_at(shot.end) - signals.pts_at(shot.start)) * signals.time_base
    return ShotSignals(
        change=signals.change[shot.start + 1 : shot.end],
        change_over_two=signals.change_over_two[shot.start + 2 : shot.end],
        thumbs=signals.thumbs[shot.start : shot.end],
        details=details,
        fps=float((shot.end - shot.start) / seconds),
        bars_area=bars_area,
    )


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


def _details(signals: SourceSignals, shot: Shot) -> list[Detail]:
    return [signals.details[number] for number in range(shot.start, shot.end) if number in signals.details]


def _even_up(pixels: float) -> int:
    return 2 * int(np.ceil(pixels / 2))
