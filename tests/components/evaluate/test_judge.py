from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoetrope.components.evaluate.judge import DIRECTIONS, HUES, judge
from zoetrope.components.evaluate.samples import decode_video
from zoetrope.infra.errors import ZoetropeError
from zoetrope.model.video import write_video

COLORS = ("red", "green", "blue", "yellow", "magenta", "cyan")
Render = Callable[..., np.ndarray]


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_colour_and_direction_is_read_off_the_encoded_video(
    render: Render, tmp_path: Path, color: str, direction: str
) -> None:
    path = write_video(tmp_path / "video.mp4", render(color, direction), 8)
    judgement = judge(decode_video(path.read_bytes()), COLORS, tuple(DIRECTIONS))
    assert (judgement.color, judgement.direction) == (color, direction)
    assert abs(judgement.path[0 if direction in ("left", "right") else 1]) == pytest.approx(0.5, abs=0.08)


def test_a_short_path_counts_and_an_object_at_rest_has_no_direction(render: Render) -> None:
    assert judge(render("red", "up", shift=0.15), COLORS, tuple(DIRECTIONS)).direction == "up"
    still = judge(render("red", "up", shift=0.0), COLORS, tuple(DIRECTIONS))
    assert (still.color, still.direction) == ("red", "")


def test_nothing_is_seen_in_grey_texture() -> None:
    grey = np.random.default_rng(0).integers(60, 200, (16, 64, 64, 1), dtype=np.uint8).repeat(3, axis=-1)
    assert judge(grey, COLORS, tuple(DIRECTIONS)).color == ""


def test_noise_is_no_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    wanted = [(color, direction) for color in COLORS for direction in DIRECTIONS]
    judgements = [
        judge(rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), COLORS, tuple(DIRECTIONS)) for _ in wanted
    ]
    assert sum(v.color == color for v, (color, _) in zip(judgements, wanted, strict=True)) <= 8
    assert sum(v.direction == direction for v, (_, direction) in zip(judgements, wanted, strict=True)) <= 8


def test_neighbouring_hues_are_distinguished_by_the_candidates_given(render: Render) -> None:
    frames = render("yellow", "left")
    assert judge(frames, tuple(HUES), ("left", "right")).color == "yellow"
    assert judge(frames, ("orange", "blue"), ("left", "right")).color == "orange"


def test_bytes_that_are_no_video_are_refused() -> None:
    with pytest.raises(ZoetropeError, match="cannot be decoded"):
        decode_video(b"not a video")
