"""Visual conditions: what is given, what is drawn, what does not fit."""

from collections import Counter
from types import MappingProxyType

import pytest
import torch

from zoetrope.model.conditions import (
    CONDITIONS,
    check_weights,
    condition_latents,
    draw_conditions,
    fitting_weights,
    given_frames,
    reference_frames,
)


def references(batch=1, **lengths):
    """Latents whose value tells where they come from and which frame they are: head 10, 11, ..., tail 50, 51, ..."""
    lengths = {"head": 1, "tail": 1, **lengths}
    return {
        name: (torch.arange(length) + (10.0 if name.startswith("head") else 50.0))
        .view(1, 1, -1, 1, 1)
        .expand(batch, 2, -1, 3, 3)
        for name, length in lengths.items()
    }


@pytest.mark.parametrize(
    ("kind", "mask", "values"),
    [
        ("t2v", [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ("i2v_head", [1, 0, 0, 0, 0], [10, 0, 0, 0, 0]),
        ("i2v_tail", [0, 0, 0, 0, 1], [0, 0, 0, 0, 50]),
        ("i2v_loop", [1, 0, 0, 0, 1], [10, 0, 0, 0, 50]),
        ("v2v_head", [1, 1, 0, 0, 0], [10, 11, 0, 0, 0]),
        ("v2v_tail", [0, 0, 0, 1, 1], [0, 0, 0, 50, 51]),
        ("v2v_head_easy", [1, 1, 1, 0, 0], [10, 11, 12, 0, 0]),
        ("v2v_tail_easy", [0, 0, 1, 1, 1], [0, 0, 50, 51, 52]),
    ],
)
def test_conditions_give_frames_and_nothing_else(kind, mask, values):
    given = references(batch=2, head_short=2, tail_short=2, head_long=3, tail_long=3)
    condition = condition_latents([kind, "t2v"], given, 5)
    assert condition.shape == (2, 3, 5, 3, 3)
    assert condition[0, 0, :, 1, 2].tolist() == mask
    assert condition[0, 1:, :, 1, 2].tolist() == [values, values]
    assert not condition[1].any()
    assert given_frames(condition).tolist() == [[bool(frame) for frame in mask], [False] * 5]


def test_an_image_is_never_given():
    assert not condition_latents(["i2v_head"], references(), 1).any()


def test_a_missing_or_too_long_reference_is_named():
    with pytest.raises(ValueError, match="v2v_head needs the reference 'head_short'; given: head, tail"):
        condition_latents(["v2v_head"], references(), 5)
    with pytest.raises(ValueError, match="gives 9 latent frames, the video has 5"):
        condition_latents(["v2v_head"], references(head_short=9), 5)


def test_a_causal_autoencoder_takes_one_frame_more():
    assert [reference_frames("short", frames) for frames in (129, 128)] == [33, 32]
    assert [reference_frames("long", frames) for frames in (129, 128)] == [65, 64]


def test_conditions_are_drawn_by_weight():
    drawn = Counter(draw_conditions({"t2v": 1, "i2v_head": 5, "i2v_tail": 0, "i2v_loop": 2}, 4000, torch.Generator()))
    assert set(drawn) == {"t2v", "i2v_head", "i2v_loop"}
    assert drawn["i2v_head"] / 4000 == pytest.approx(5 / 8, abs=0.03)


def test_what_does_not_fit_a_short_video_is_not_drawn_and_the_weights_stay():
    weights = MappingProxyType({"t2v": 1.0, "i2v_head": 2.0, "i2v_loop": 1.0, "v2v_head": 4.0, "v2v_tail_easy": 8.0})
    everything = references(head_short=9, tail_short=9, head_long=17, tail_long=17)
    assert fitting_weights(weights, everything, 33) == weights
    assert set(fitting_weights(weights, everything, 17)) == {"t2v", "i2v_head", "i2v_loop", "v2v_head"}
    assert set(fitting_weights(weights, everything, 9)) == {"t2v", "i2v_head", "i2v_loop"}
    assert set(fitting_weights(weights, everything, 2)) == {"t2v", "i2v_head"}
    assert fitting_weights(weights, everything, 1) == {"t2v": 1}
    # a bucket that is too short has no such references at all
    assert set(fitting_weights(weights, references(), 5)) == {"t2v", "i2v_head", "i2v_loop"}
    assert fitting_weights(weights, everything, 33) == weights
    assert fitting_weights({"v2v_head": 1.0}, references(), 5) == {"t2v": 1}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"v2v_half": 1}, "unknown condition 'v2v_half'; there are t2v, i2v_head, .*v2v_tail_easy"),
        ({"t2v": -1}, "positive"),
        ({"t2v": 0}, "positive"),
        ({}, "positive"),
    ],
)
def test_condition_weights_are_checked(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights)


def test_the_kinds_are_the_released_ones():
    assert list(CONDITIONS) == [
        "t2v", "i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy",
    ]  # fmt: skip
