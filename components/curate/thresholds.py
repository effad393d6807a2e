"""Applies thresholds to stored scores: no video is read, so another threshold costs no decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from zoetrope.components.curate.filters import FilterSettings

LAST = "near_duplicate"
"""The filter that compares clips with each other; it sees only those that all others let through."""


def apply_thresholds(table: pyarrow.Table, config: FilterSettings) -> pyarrow.Table:
    """Decisions on scored clips.

    Args:
        table: clips with scores; decisions that it already has are replaced.
        config: the thresholds.

    Returns:
        the table with `kept` (bool) and `dropped_by` (list<string>: every filter that says no, in the order of the
        table of filters); everything else is untouched.
    """
    import pyarrow

    names = [name for name in ("kept", "dropped_by") if name in table.column_names]
    table = table.drop_columns(names) if names else table
    dropped: list[list[str]] = [[] for _ in range(table.num_rows)]
    clips = table.to_pandas()
    for name, filter_ in config.table().items():
        if not filter_.enabled or clips.empty:
            continue
        judged = np.asarray([not reasons for reasons in dropped]) if name == LAST else np.ones(len(clips), bool)
        if not judged.any():
            continue
        for row in np.flatnonzero(judged)[filter_.rejects(clips[judged])]:
            dropped[row].append(name)
    kept = pyarrow.array([not reasons for reasons in dropped], pyarrow.bool_())
    table = table.append_column("kept", kept)
    return table.append_column("dropped_by", pyarrow.array(dropped, pyarrow.list_(pyarrow.string())))


def funnel(table: pyarrow.Table, config: FilterSettings) -> dict[str, object]:
    """What each filter lets through, in clips and seconds, in the order in which they are asked.

    Args:
        table: clips with decisions.
        config: the thresholds that gave them.

    Returns:
        {schema, total, kept: {clips, seconds}, filters: [{name, enabled, settings, in, out, says_no, first_kill,
        sole_kill: {clips, seconds}}]}. `says_no` counts all clips that the filter rejects, `first_kill` those that no
        earlier one did, `sole_kill` those that no other one does.
    """
    clips = table.select(["seconds", "dropped_by"]).to_pandas()
    reasons = [list(names) for names in clips["dropped_by"]]
    entering = np.ones(len(clips), bool)
    filters = []
    for name, filter_ in config.table().items():
        says_no = np.asarray([name in names for names in reasons], bool)
        first = np.asarray([names[:1] == [name] for names in reasons], bool)
        sole = np.asarray([names == [name] for names in reasons], bool)
        filters.append(
            {
                "name": name,
                "enabled": filter_.enabled,
                "settings": filter_.model_dump(exclude={"enabled", "measure"}),
                "in": _amount(clips, entering),
                "out": _amount(clips, entering & ~first),
                "says_no": _amount(clips, says_no),
                "first_kill": _amount(clips, first),
                "sole_kill": _amount(clips, sole),
            }
        )
        entering &= ~first
    return {
        "schema": "zoetrope.funnel.v1",
        "total": _amount(clips, np.ones(len(clips), bool)),
        "kept": _amount(clips, entering),
        "filters": filters,
    }


def _amount(clips: pandas.DataFrame, which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> dict[str, float]:
    return {"clips": int(which.sum()), "seconds": round(float(clips["seconds"][which].sum()), 3)}
