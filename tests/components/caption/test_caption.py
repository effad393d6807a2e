"""Captions: which text a clip gets, and on which side of the split it is."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from zoetrope.components.caption.batches import Clip, best_caption, split, suffix
from zoetrope.components.caption.config import CaptionConfig
from zoetrope.components.caption.step import caption
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_bytes
from zoetrope.infra.store import get_json, get_table, open_store, put_json, put_table


def text(words: str, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    return {"start": start, "end": end, "text": words, "attributes": {"color": words}, "source": "catalogue"}


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    return StepContext("caption", open_store(tmp_path / "store"), tmp_path / "work", tmp_path / "run")


def products(context: StepContext, captions: list[dict[str, Any]], count: int = 40) -> tuple[str, str]:
    """(clips, sources) of one source whose clips lie two seconds apart; every fifth clip is not kept."""
    source = {"source_id": "s", "status": "usable", "captions": json.dumps(captions)}
    other = {"source_id": "s", "status": "rejected", "captions": json.dumps([text("of the rejected copy")])}
    sources = {"table": str(put_table(context.store, pyarrow.Table.from_pylist([source, other])))}
    clips = [
        {
            "clip_id": digest_bytes(str(number).encode()),
            "source_id": "s",
            "start": f"{2 * number}/1",
            "end": f"{2 * number + 2}/1",
            "fps": 24.0,
            "motion": 1.6,
            "kept": number % 5 != 0,
        }
        for number in range(count)
    ]
    table = put_table(context.store, pyarrow.Table.from_pylist(clips))
    return str(put_json(context.store, {"table": str(table)})), str(put_json(context.store, sources))


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ([text("whole")], "whole"),
        ([text("a", "0/1", "5/2"), text("b", "5/2", "9/1")], "b"),
        ([text("whole"), text("exact", "2/1", "4/1")], "exact"),
        ([text("before", "0/1", "2/1"), text("after", "4/1", None)], None),
        ([text("first", "2/1", "4/1"), text("second", "2/1", "4/1")], "first"),
        ([text("from three on", "3/1", None)], "from three on"),
        ([text("")], None),
        ([], None),
    ],
)
def test_the_caption_that_overlaps_most_wins(captions: list[dict[str, Any]], expected: str | None) -> None:
    chosen = best_caption(captions, Fraction(2), Fraction(4))
    assert (chosen["text"] if chosen else None) == expected


@pytest.mark.parametrize(
    ("fps", "motion", "expected"),
    [
        (24.0, 1.6, " 24 FPS, 2 motion score."),
        (25.0, 0.4, " 12 FPS, 0 motion score."),
        (29.97, 3.5, " 15 FPS, 4 motion score."),
        (60.0, 7.0, " 20 FPS, 7 motion score."),
        (16.0, 1.0, " 16 FPS, 1 motion score."),
    ],
)
def test_the_suffix_of_open_sora(fps: float, motion: float, expected: str) -> None:
    clip = Clip("clip", "source", "0/1", "1/1", fps, motion)
    assert suffix(clip, CaptionConfig(suffix="fps_motion")) == expected
    assert suffix(clip, CaptionConfig()) == ""


def test_the_split_depends_on_the_clip_alone_and_keeps_its_share() -> None:
    ids = [digest_bytes(str(number).encode()) for number in range(4000)]
    held_out = {clip for clip in ids if split(clip, 0.05) == "held_out"}
    assert 0.04 < len(held_out) / len(ids) < 0.06
    assert held_out <= {clip for clip in ids if split(clip, 0.1) == "held_out"}
    assert all(split(clip, 0.0) == "train" for clip in ids)


def test_kept_clips_get_a_row_and_those_without_text_are_counted(context: StepContext) -> None:
    clips, sources = products(context, [text("early", "0/1", "40/1")])
    result = caption(CaptionConfig(held_out_fraction=0.2), clips, sources, context)
    manifest = get_json(context.store, result.product)
    rows = get_table(context.store, manifest["table"]).to_pylist()
    assert manifest["clips"] == clips
    assert [row["clip_id"] for row in rows] == sorted(row["clip_id"] for row in rows)
    assert {row["caption"] for row in rows} == {"early"}
    assert {row["caption_source"] for row in rows} == {"catalogue"}
    assert json.loads(rows[0]["attributes"]) == {"color": "early"}
    held_out = sum(row["split"] == "held_out" for row in rows)
    assert 0 < held_out < len(rows)
    assert manifest["counts"] == {"captioned": 16, "without": 16, "held_out": held_out}
    assert caption(CaptionConfig(held_out_fraction=0.2), clips, sources, context).product == result.product


def test_without_any_caption_it_says_what_to_give(context: StepContext) -> None:
    clips, sources = products(context, [text("much later", "900/1", "901/1")])
    with pytest.raises(ZoetropeError, match="none of 32 kept clips") as caught:
        caption(CaptionConfig(), clips, sources, context)
    assert "catalogue.csv" in caught.value.hint


def test_when_all_is_held_out_nothing_is_left_to_train_on(context: StepContext) -> None:
    clips, sources = products(context, [text("whole")], count=3)
    with pytest.raises(ZoetropeError, match="none is left to train on"):
        caption(CaptionConfig(held_out_fraction=0.9999), clips, sources, context)


def test_captions_of_users_are_escaped_in_the_page(context: StepContext) -> None:
    clips, sources = products(context, [text("<script>alert(1)</script>")])
    page = caption(CaptionConfig(), clips, sources, context).page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
