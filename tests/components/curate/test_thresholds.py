"""Thresholds on stored scores, and the table of filters."""

import hashlib
from pathlib import Path

import pyarrow
import pytest

from zoetrope.components.curate import filters
from zoetrope.components.curate.filters import Filter, FilterSettings
from zoetrope.components.curate.filters.duration import Duration
from zoetrope.components.curate.filters.motion import Motion
from zoetrope.components.curate.thresholds import apply_thresholds, funnel

GOOD = {
    "clip_id": "",
    "seconds": 3.0,
    "motion": 1.0,
    "jitter": 0.1,
    "blur": 100.0,
    "text_area": 0.0,
    "bars_area": 0.0,
    "crop_width": 96,
    "crop_height": 96,
    "perceptual_hash": "",
}


def table(*changes: dict[str, object]) -> pyarrow.Table:
    rows = []
    for number, change in enumerate(changes):
        digest = b"".join(hashlib.sha256(bytes([number, part])).digest() for part in range(3))
        rows.append({**GOOD, "clip_id": f"{number:064x}", "perceptual_hash": digest.hex(), **change})
    return pyarrow.Table.from_pylist(rows)


def asked(**changes: Filter) -> FilterSettings:
    """The table of filters; off are those that judge columns which the made-up clips do not have."""
    every = FilterSettings().table()
    off = {name: type(each)(enabled=False) for name, each in every.items() if not set(each.columns) <= set(GOOD)}
    return FilterSettings(**(off | changes))


def decisions(clips: pyarrow.Table, settings: FilterSettings | None = None) -> list[list[str]]:
    result = apply_thresholds(clips, settings or asked())
    assert result["kept"].to_pylist() == [not names for names in result["dropped_by"].to_pylist()]
    names: list[list[str]] = result["dropped_by"].to_pylist()
    return names


def test_the_folder_and_the_table_of_filters_agree() -> None:
    folder = Path(filters.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
    assert set(FilterSettings().table()) == files


def test_every_filter_that_says_no_is_named_in_order() -> None:
    clips = table({}, {"seconds": 1.0, "motion": 0.0}, {"blur": 1.0}, {"text_area": 0.2}, {"jitter": 9.0})
    assert decisions(clips) == [[], ["duration", "motion"], ["blur"], ["text"], ["jitter"]]


def test_bars_are_dropped_only_when_little_or_an_odd_picture_remains() -> None:
    clips = table({"bars_area": 0.4}, {"bars_area": 0.6}, {"crop_width": 96, "crop_height": 30})
    assert decisions(clips) == [[], ["bars"], ["bars"]]


def test_another_threshold_changes_verdicts_and_nothing_else() -> None:
    clips = apply_thresholds(table({}, {"motion": 5.0}), asked())
    strict = asked(motion=Motion(maximum=2.0))
    again = apply_thresholds(clips, strict)
    assert again["dropped_by"].to_pylist() == [[], ["motion"]]
    assert again.drop_columns(["kept", "dropped_by"]) == clips.drop_columns(["kept", "dropped_by"])
    assert apply_thresholds(again, asked()) == clips


def test_a_disabled_filter_drops_nothing() -> None:
    assert decisions(table({"seconds": 0.1}), asked(duration=Duration(enabled=False))) == [[]]


def test_of_near_duplicates_the_sharpest_is_kept_and_a_dropped_clip_drops_no_other() -> None:
    same = {"perceptual_hash": "ab" * 96}
    clips = table({**same, "blur": 50.0}, {**same, "blur": 60.0}, {**same, "blur": 900.0, "text_area": 0.5}, {})
    assert decisions(clips) == [["near_duplicate"], [], ["text"], []]


@pytest.mark.parametrize(("differing", "expected"), [(130, ["near_duplicate"]), (131, [])])
def test_near_means_up_to_the_configured_number_of_bits(differing: int, expected: list[str]) -> None:
    other = f"{(1 << differing) - 1:0192x}"
    clips = table({"perceptual_hash": "0" * 192, "blur": 200.0}, {"perceptual_hash": other})
    assert decisions(clips)[1] == expected


@pytest.mark.parametrize(
    ("clip", "names"),
    [
        ({"seconds": 2.0}, []),
        ({"seconds": 1.999}, ["duration"]),
        ({"motion": 0.35}, []),
        ({"motion": 0.349}, ["motion"]),
        ({"motion": 20.0}, []),
        ({"motion": 20.001}, ["motion"]),
        ({"jitter": 3.0}, []),
        ({"jitter": 3.001}, ["jitter"]),
        ({"blur": 12.0}, []),
        ({"blur": 11.999}, ["blur"]),
        ({"text_area": 0.01}, []),
        ({"text_area": 0.0101}, ["text"]),
        ({"bars_area": 0.5}, []),
        ({"bars_area": 0.501}, ["bars"]),
        ({"crop_width": 32, "crop_height": 96}, []),
        ({"crop_width": 31, "crop_height": 96}, ["bars"]),
        ({"crop_width": 96, "crop_height": 32}, []),
        ({"crop_width": 97, "crop_height": 32}, ["bars"]),
    ],
)
def test_a_score_at_its_threshold_passes(clip: dict[str, object], names: list[str]) -> None:
    assert decisions(table(clip)) == [names]


def test_an_empty_table() -> None:
    assert apply_thresholds(table({}).slice(0, 0), asked()).num_rows == 0


def test_kills_of_the_funnel() -> None:
    clips = apply_thresholds(table({}, {"seconds": 1.0, "motion": 0.0}, {"motion": 0.0}), asked())
    story = {item["name"]: item for item in funnel(clips, asked())["filters"]}  # type: ignore[attr-defined]
    assert story["duration"]["first_kill"] == {"clips": 1, "seconds": 1.0}
    assert story["duration"]["sole_kill"]["clips"] == 0
    assert story["motion"]["says_no"] == {"clips": 2, "seconds": 4.0}
    assert story["motion"]["first_kill"]["clips"] == story["motion"]["sole_kill"]["clips"] == 1
