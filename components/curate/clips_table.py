"""Puts measurements of sources together: `clips.parquet` without decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.measuring import Measurements
from zoetrope.components.curate.shots import SHOT_COLUMNS
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference, digest_json

if TYPE_CHECKING:
    import pyarrow

COLUMNS = (
    "clip_id", "source_id", "video", "start", "end", "seconds", "start_pts", "end_pts", "time_base", "frames", "fps",
    "width", "height", "crop_x", "crop_y", "crop_width", "crop_height",
)  # fmt: skip
"""Columns before the scores."""


def clip_id(source_id: str, start: Fraction, end: Fraction) -> str:
    """Identity of a clip: what the source holds and the exact span in seconds.

    No score and no decoder has a part in it, so that a new one leaves the clips, and the side of the held-out split
    on which they are, as they were.
    """
    return digest_json([source_id, rational(start), rational(end)])


def clips_table(
    sources: Sequence[Mapping[str, Any]], measurements: Measurements, filters: FilterSettings
) -> pyarrow.Table:
    """One row a shot piece, sorted by clip_id; the bytes depend on what was measured and not on when or in what order.

    Args:
        sources: rows of sources.parquet (`source_id`, `video`), all measured and without a problem.
        measurements: of these sources.
        filters: whose columns follow those of the shots, in the order of the table.

    Raises:
        ZoetropeError: the scores of a source are not those of its shots.
    """
    import pyarrow
    import pyarrow.compute

    digests = [Reference.parse(row["video"]).digest for row in sources]
    shots = measurements.shots.table(digests)
    clips_of = pyarrow.compute.list_value_length(shots["start_pts"].combine_chunks())
    owners = pyarrow.compute.list_parent_indices(shots["start_pts"].combine_chunks())

    def each(values: Any) -> Any:
        """The value of a source, for each of its clips."""
        return values.take(owners)

    def flat(table: pyarrow.Table, column: str) -> Any:
        """A value of each clip."""
        return pyarrow.compute.list_flatten(table[column].combine_chunks())

    text = pyarrow.string()
    source_ids = each(pyarrow.array([row["source_id"] for row in sources], text))
    time_bases = each(shots["time_base"])
    columns = _times(source_ids, time_bases, *(flat(shots, name) for name in ("start_pts", "end_pts", "frames")))
    columns |= {
        "source_id": source_ids,
        "video": each(pyarrow.array([row["video"] for row in sources], text)),
        "time_base": time_bases,
        **{name: each(shots[name]) for name in ("width", "height")},
        **{name: flat(shots, name) for name in SHOT_COLUMNS},
    }
    names = list(COLUMNS)
    for name, filter_ in filters.table().items():
        if not filter_.columns:
            continue
        scores = measurements.scores[name].table(digests)
        for column in filter_.columns:
            if pyarrow.compute.list_value_length(scores[column].combine_chunks()) != clips_of:
                raise ZoetropeError(
                    f"curate: the stored scores of {name} belong to other shots",
                    "two machines measured the same sources and cut them differently; run again with --fresh",
                )
            columns[column] = flat(scores, column)
            names.append(column)
    return pyarrow.table({name: columns[name] for name in names}).sort_by("clip_id").combine_chunks()


def _times(source_ids: Any, time_bases: Any, starts: Any, ends: Any, frames: Any) -> dict[str, list[Any]]:
    """Columns that follow from the exact span of each clip."""
    found: dict[str, list[Any]] = {name: [] for name in ("clip_id", "start", "end", "seconds", "fps")}
    rows = zip(*(column.to_pylist() for column in (source_ids, time_bases, starts, ends, frames)), strict=True)
    for source_id, base, start_pts, end_pts, count in rows:
        start, end = start_pts * Fraction(base), end_pts * Fraction(base)
        for name, value in {
            "clip_id": clip_id(source_id, start, end),
            "start": rational(start),
            "end": rational(end),
            "seconds": float(end - start),
            "fps": float(count / (end - start)),
        }.items():
            found[name].append(value)
    return found


def rational(value: Fraction) -> str:
    """`n/d` in lowest terms."""
    return f"{value.numerator}/{value.denominator}"
