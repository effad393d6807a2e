"""Curation measured against what the sample footage is known to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.components.curate.conftest import Curated
from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.cut_config import CutConfig
from zoetrope.components.curate.cuts import find_shots, hard_cuts
from zoetrope.components.curate.decode import read_signals
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.filters.motion import Motion
from zoetrope.components.curate.step import curate
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import canonical_json
from zoetrope.infra.store import get_bytes, get_json, get_table, put_content, put_json, put_table
from zoetrope.infra.store.local import LocalStore


def test_hard_cuts_are_found_at_their_exact_time(curated: Curated) -> None:
    hits = misses = extras = 0
    for film in curated.truth:
        signals = read_signals(curated.footage / film["path"])
        found = {int(signals.pts[frame]) for frame in hard_cuts(signals, CutConfig())}
        true = {shot["start_pts"] for shot in film["shots"][1:] if shot["transition"] == "cut"}
        hits, misses, extras = hits + len(found & true), misses + len(true - found), extras + len(found - true)
    assert hits > 50
    assert hits / (hits + misses) >= 0.95
    assert hits / (hits + extras) >= 0.95


def test_dissolves_belong_to_no_clip(curated: Curated) -> None:
    parted = total = 0
    for film in curated.truth:
        signals = read_signals(curated.footage / film["path"])
        shots = find_shots(signals, CutConfig())
        for before, after in zip(film["shots"], film["shots"][1:], strict=False):
            if after["transition"] == "dissolve":
                total += 1
                middle = (before["end_pts"] + after["start_pts"]) // 2
                parted += not any(signals.pts_at(s.start) <= middle < signals.pts_at(s.end) for s in shots)
    assert total >= 15
    assert parted / total >= 0.9


@pytest.mark.parametrize(
    ("defect", "filter_name"), [("static", "motion"), ("blur", "blur"), ("text", "text"), ("jitter", "jitter")]
)
def test_each_defect_is_dropped_by_its_filter(defect: str, filter_name: str, curated: Curated) -> None:
    found = [clip for _, shot, clip in curated.shots() if shot["defect"] == defect and clip is not None]
    assert len(found) >= 5
    assert sum(filter_name in clip.dropped_by for clip in found) / len(found) >= 0.9


def test_clean_shots_survive(curated: Curated) -> None:
    copied = {film["copy_of"] for film in curated.truth if film["copy_of"]}
    clean = [
        clip
        for film, shot, clip in curated.shots()
        if not shot["defect"] and not film["copy_of"] and film["path"] not in copied
    ]
    assert len(clean) > 40
    assert sum(clip is not None and clip.kept for clip in clean) / len(clean) >= 0.95


def test_black_bars_are_cropped_and_the_clip_is_kept(curated: Curated) -> None:
    barred = [clip for film, shot, clip in curated.shots() if shot["defect"] == "bars" and not film["copy_of"]]
    assert len(barred) >= 4
    for clip in barred:
        assert (clip.crop_x, clip.crop_y, clip.crop_width, clip.crop_height) in {(0, 12, 96, 72), (12, 0, 72, 96)}
        assert clip.bars_area == pytest.approx(0.25)
        assert "bars" not in clip.dropped_by
    plain = [clip for _, shot, clip in curated.shots() if not shot["defect"] and clip is not None]
    assert all((clip.crop_width, clip.crop_height) == (96, 96) for clip in plain)


def test_of_a_clip_and_its_reencoded_copy_one_is_kept(curated: Curated) -> None:
    both = {
        (film["copy_of"] or film["path"], shot["start"]): [] for film, shot, _ in curated.shots() if film["copy_of"]
    }
    for film, shot, clip in curated.shots():
        key = (film["copy_of"] or film["path"], shot["start"])
        if key in both and clip is not None and not shot["defect"]:
            both[key].append(bool(clip.kept))
    pairs = [kept for kept in both.values() if len(kept) == 2]
    assert len(pairs) >= 6
    assert sum(sum(kept) == 1 for kept in pairs) / len(pairs) >= 0.95


def test_times_are_exact_and_ids_depend_on_content_alone(curated: Curated) -> None:
    clips = curated.clips
    assert clips.clip_id.is_unique
    assert list(clips.clip_id) == sorted(clips.clip_id)
    first = clips.iloc[0]
    numerator, denominator = map(int, first.start.split("/"))
    base_numerator, base_denominator = map(int, first.time_base.split("/"))
    assert first.start_pts * base_numerator * denominator == numerator * base_denominator


def test_the_product_does_not_depend_on_workers_and_repeats(curated: Curated) -> None:
    fresh = replace(curated.context, fresh=True)
    again = curate(CurateConfig(workers=1), str(curated.sources.product), fresh)
    assert again.product == curated.result.product


def test_the_funnel_adds_up(curated: Curated) -> None:
    manifest = get_json(curated.context.store, curated.result.product)
    funnel = get_json(curated.context.store, manifest["funnel"])
    clips = curated.clips
    assert funnel["total"]["clips"] == len(clips) == manifest["counts"]["shots"]
    assert funnel["kept"]["clips"] == clips.kept.sum() == manifest["counts"]["kept"]
    assert funnel["kept"]["seconds"] == pytest.approx(clips.seconds[clips.kept].sum(), abs=0.01)
    before = funnel["total"]
    for item in funnel["filters"]:
        assert item["in"] == before
        assert item["in"]["clips"] - item["first_kill"]["clips"] == item["out"]["clips"]
        assert item["sole_kill"]["clips"] <= item["first_kill"]["clips"] <= item["says_no"]["clips"]
        before = item["out"]
    assert before == funnel["kept"]
    assert curated.result.gates[0]["success"]
    assert "near_duplicate" in curated.result.page


def test_videos_of_a_store_elsewhere_are_fetched_and_not_left_behind(
    curated: Curated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStore, "local_path", lambda store, uri: None)
    again = curate(CurateConfig(workers=1), str(curated.sources.product), replace(curated.context, fresh=True))
    assert again.product == curated.result.product
    assert not [path for path in curated.context.work.iterdir() if path.is_file()]


def test_a_source_that_cannot_be_decoded_is_named_and_the_others_go_on(curated: Curated) -> None:
    store = curated.context.store
    manifest = get_json(store, curated.sources.product)
    rows = get_table(store, manifest["table"])
    broken = str(put_content(store, b"no video at all", ".mp4"))
    few = [dict(row) for row in rows.slice(0, 3).to_pylist()]
    few[1]["video"] = broken
    product = put_json(store, {**manifest, "table": str(put_table(store, type(rows).from_pylist(few, rows.schema)))})
    result = curate(CurateConfig(workers=1), str(product), curated.context)
    damaged = get_json(store, result.product)["damaged"]
    assert damaged == [{"name": few[1]["name"], "reason": "damaged: Invalid data found when processing input"}]
    table = get_table(store, get_json(store, result.product)["table"])
    assert set(table["source_id"].to_pylist()) == {few[0]["source_id"], few[2]["source_id"]}


def test_when_nothing_is_kept_it_says_which_filter_dropped_what(curated: Curated) -> None:
    strict = CurateConfig(workers=1, filters=FilterSettings(motion=Motion(minimum=400, maximum=500)))
    with pytest.raises(ZoetropeError, match="none of") as caught:
        curate(strict, str(curated.sources.product), curated.context)
    assert "motion" in caught.value.hint


def test_no_path_and_no_time_in_the_products(curated: Curated, tmp_path: Path) -> None:
    store = curated.context.store
    manifest: dict[str, Any] = get_json(store, curated.result.product)
    funnel = get_bytes(store, manifest["funnel"])
    assert str(curated.footage).encode() not in funnel
    assert canonical_json(manifest).count(b"file://") == 3
