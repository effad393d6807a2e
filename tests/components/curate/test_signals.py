"""Cutting and scoring on made-up signals."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from zoetrope.components.curate.cut_config import CutConfig
from zoetrope.components.curate.cuts import Shot, find_shots
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.filters.base import Measure
from zoetrope.components.curate.filters.jitter import Jitter
from zoetrope.components.curate.filters.text import Text, TextMeasure, dense_area
from zoetrope.components.curate.shots import chop, crop
from zoetrope.components.curate.signals import Detail, ShotSignals, SourceSignals, measure_detail


def signals(count: int, fps: int = 24, change: np.ndarray | None = None) -> SourceSignals:
    values = np.full(count, 0.5, np.float32) if change is None else change
    return SourceSignals(
        pts=np.arange(count, dtype=np.int64) * 512,
        end_pts=count * 512,
        time_base=Fraction(1, 512 * fps),
        width=96,
        height=96,
        change=values,
        change_over_two=values,
        histogram_change=np.zeros(count, np.float32),
        thumbs=np.zeros((count, 32, 32), np.uint8),
        details={},
    )


@pytest.mark.parametrize(
    ("frames", "expected"), [(480, [192, 192, 96]), (192, [192]), (193, [192, 1]), (100, [100]), (384, [192, 192])]
)
def test_long_shots_are_chopped_at_eight_seconds(frames: int, expected: list[int]) -> None:
    pieces = list(chop(Shot(0, frames), signals(frames), 8.0))
    assert [piece.end - piece.start for piece in pieces] == expected
    assert all(before.end == after.start for before, after in pairwise(pieces))


def test_a_cut_stands_out_from_its_surroundings() -> None:
    change = np.full(60, 0.5, np.float32)
    change[0], change[30] = 0, 40
    assert find_shots(signals(60, change=change), CutConfig()) == [Shot(0, 30), Shot(30, 60)]
    # The same change in every frame is a shaking camera, not a series of cuts.
    assert find_shots(signals(60, change=np.full(60, 40, np.float32)), CutConfig()) == [Shot(0, 60)]


def test_jitter_is_change_that_takes_itself_back() -> None:
    def shot(over_two: float) -> ShotSignals:
        change, double = np.full(9, 5.0, np.float32), np.full(8, over_two, np.float32)
        return ShotSignals(change, double, np.zeros((10, 32, 32), np.uint8), [], 24.0, 0.0)

    assert Jitter.score(shot(10.0), Measure()) == {"jitter": 0.0}
    assert Jitter.score(shot(5.0), Measure()) == {"jitter": 5.0}


def test_a_shot_between_two_measured_frames_has_finite_scores() -> None:
    """The last piece of a chopped shot may be a single frame."""
    nothing = np.zeros(0, np.float32)
    short = ShotSignals(nothing, nothing, np.zeros((1, 32, 32), np.uint8), [], 24.0, 0.0)
    scores: dict[str, float | str] = {}
    for filter_ in FilterSettings().table().values():
        scores |= filter_.score(short, filter_.measure)
    assert scores["blur"] == scores["text_area"] == 0.0
    assert all(np.isfinite(value) for value in scores.values() if isinstance(value, float))
    assert len(str(scores["perceptual_hash"])) == 192


def test_bars_are_what_is_dark_in_every_frame() -> None:
    def detail(top: int, left: int) -> Detail:
        picture = np.full((90, 160), 120, np.uint8)
        picture[:top], picture[:, :left] = 16, 16
        return measure_detail(picture)

    # Analysis at 160 x 90 of a 1920 x 1080 video: twelve source pixels a line.
    assert crop([detail(10, 0), detail(7, 0)], 1920, 1080) == (0, 84, 1920, 996)
    assert crop([detail(0, 5), detail(0, 0)], 1920, 1080) == (0, 0, 1920, 1080)
    dark = measure_detail(np.full((90, 160), 16, np.uint8))
    assert crop([dark, dark], 1920, 1080) == (0, 0, 1920, 1080)
    assert crop([], 1919, 1079) == (0, 0, 1919, 1079)


def test_letters_are_dense_and_outlines_are_not() -> None:
    outline = np.zeros((96, 96), bool)
    outline[:, 40] = True
    assert dense_area(outline, 8, 0.2) == 0
    letters = np.zeros((96, 96), bool)
    letters[80:88, 8:40:2] = True
    assert dense_area(letters, 8, 0.2) == pytest.approx(4 / 144)
    assert dense_area(np.zeros((4, 4), bool), 8, 0.2) == 0


def test_the_blocks_of_text_are_settings_of_its_score() -> None:
    edges = np.zeros((32, 32), bool)
    edges[0:4, 0:4] = True
    detail = Detail(0.0, np.packbits(edges), np.zeros(32, bool), np.zeros(32, bool))
    shot = ShotSignals(
        np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros((1, 32, 32), np.uint8), [detail], 24, 0
    )
    assert Text.score(shot, TextMeasure()) == {"text_area": 1 / 16}
    assert Text.score(shot, TextMeasure(block=4)) == {"text_area": 1 / 64}
    assert Text.score(shot, TextMeasure(share=0.3)) == {"text_area": 0.0}


def dissolve(before: int, length: int, after: int) -> SourceSignals:
    """Two pictures and `length` mixed frames between them."""
    first, second = np.random.default_rng(0).integers(40, 200, (2, 32, 32)).astype(float)
    share = np.concatenate([np.zeros(before), np.arange(1, length + 1) / (length + 1), np.ones(after)])[:, None, None]
    thumbs = np.rint((1 - share) * first + share * second).astype(np.uint8)
    change = np.abs(np.diff(thumbs.astype(np.float32), axis=0, prepend=thumbs[:1])).mean((1, 2))
    return replace(signals(len(thumbs), change=change.astype(np.float32)), thumbs=thumbs)


@pytest.mark.parametrize(("length", "last", "first"), [(8, 38, 49), (10, 39, 50), (12, 39, 52), (16, 37, 56)])
def test_a_dissolve_is_cut_out_at_these_frames(length: int, last: int, first: int) -> None:
    """Frames 40 to 39 + length are mixed; up to three clean ones are lost before them, none is mixed after them."""
    total = 80 + length
    assert find_shots(dissolve(40, length, 40), CutConfig()) == [Shot(0, last), Shot(first, total)]
    assert last <= 40 and first >= 40 + length


def test_a_sharp_picture_scores_higher_than_a_blurred_one_and_bars_do_not_count() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(60, 200, (90, 160)).astype(np.uint8)
    flat = np.full((90, 160), 120, np.uint8)
    flat[:10] = 16
    assert measure_detail(noise).sharpness > 1000
    assert measure_detail(flat).sharpness == 0
