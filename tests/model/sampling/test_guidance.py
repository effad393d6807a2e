"""Guidance on velocity fields whose exact solution is known."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoetrope.model.flow import FlowConfig, shift_time
from zoetrope.model.sampling import SamplerConfig, VisualCondition, sample_latents
from zoetrope.model.sampling.guidance import combine, image_weights

SHAPE = (2, 3, 4, 4)
SEED = 7


def noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))


def sample(tools, field, config, flow=None, visual=None):
    model = tools.Field(field)
    out = sample_latents(model, config, flow or FlowConfig(), tools.text(1), SHAPE, [SEED], visual=visual)
    return out[0], model


def towards(text_point, null_point, image_point):
    """Rectified flow: straight lines to one point for each forward, v = (x - point) / t, solved exactly by Euler."""

    def field(x, time, text, given):
        point = text * given * text_point + (1 - text) * given * image_point + (1 - given) * (1 - text) * null_point
        return (x - point) / time

    return field


def times(config, alpha):
    return shift_time(torch.linspace(1, 0, config.steps + 1, dtype=torch.float64), alpha).tolist()


@pytest.mark.parametrize("steps", [1, 3, 50])
@pytest.mark.parametrize("velocity", ["released", "paper"])
def test_a_straight_flow_ends_in_its_point_for_either_sign(tools, steps, velocity):
    flow = FlowConfig(velocity=velocity)
    config = SamplerConfig(steps=steps, text_guidance=1)
    end, model = sample(tools, lambda x, t, text, given: flow.sign * (x - 2.5) / t, config, flow)
    torch.testing.assert_close(end, torch.full(SHAPE, 2.5), rtol=0, atol=1e-5)
    assert [call["count"] for call in model.calls] == [1] * steps
    assert model.calls[0]["time"] == 1


def test_text_guidance_leads_beyond_the_texts_point(tools):
    field = towards(text_point=0, null_point=0, image_point=0)

    def two(x, time, text, given):
        return field(x, time, text, given) - text * 2 / time + (1 - text) * 1 / time  # text at 2, none at -1

    end, _ = sample(tools, two, SamplerConfig(steps=4, text_guidance=3, oscillation=False))
    torch.testing.assert_close(end, torch.full(SHAPE, -1.0 + 3 * (2 - -1)), rtol=0, atol=1e-5)


def test_text_and_image_guidance_add_up(tools):
    """C + image (B - C) + text (A - B) with A at 2, B at 1, C at -1."""
    config = SamplerConfig(
        steps=4, text_guidance=4, image_guidance=3, oscillation=False, dynamic_image_guidance=False,
        overwrite_given_frames=False,
    )  # fmt: skip
    end, model = sample(tools, towards(2, -1, 1), config, visual=tools.images(["i2v_head"]))
    torch.testing.assert_close(end, torch.full(SHAPE, -1.0 + 3 * (1 - -1) + 4 * (2 - 1)), rtol=0, atol=1e-5)
    assert [call["count"] for call in model.calls] == [3] * 4


def test_dynamic_image_guidance_follows_frame_and_step(tools):
    """A field that is 1 where frames are given: each frame moves by the mean of its weights."""
    config = SamplerConfig(
        steps=5, text_guidance=1, image_guidance=3, oscillation=False, overwrite_given_frames=False, shift=1.0
    )
    field = lambda x, time, text, given: torch.zeros_like(x) + given  # noqa: E731
    end, _ = sample(tools, field, config, visual=tools.images(["i2v_head"]))
    # of the last frame: mean over the steps of linspace(3, 1, 6)[:5] = 2.2
    moved = (noise() - end)[0, :, 0, 0].tolist()
    assert moved == pytest.approx([1, 1.6, 2.2], abs=1e-5)


def test_oscillation_in_closed_form(tools):
    """v = k x with text and 0 without: x ends as the product of (1 + dt k g_i), with g_i of the quiet steps 1."""
    k, guidance, alpha = 0.5, 4.0, 2.0
    for oscillation_text, quiet in ((True, 1.0), (False, guidance)):
        config = SamplerConfig(
            steps=8, text_guidance=guidance, oscillation_start=2, oscillation_text=oscillation_text, shift=alpha
        )
        end, _ = sample(tools, lambda x, time, text, given: k * x * text, config)
        factor = 1.0
        for index, (time, following) in enumerate(itertools.pairwise(times(config, alpha))):
            factor *= 1 + (following - time) * k * (quiet if index in (3, 5, 7) else guidance)
        torch.testing.assert_close(end, noise() * factor, rtol=1e-5, atol=1e-6)


def test_oscillation_of_the_image_in_closed_form(tools):
    k, guidance, alpha = 0.5, 3.0, 2.0
    config = SamplerConfig(
        steps=8, text_guidance=1, image_guidance=guidance, oscillation_start=2, dynamic_image_guidance=False,
        overwrite_given_frames=False, shift=alpha,
    )  # fmt: skip
    end, _ = sample(tools, lambda x, t, text, given: k * x * given, config, visual=tools.images(["i2v_tail"]))
    factor = 1.0
    for index, (time, following) in enumerate(itertools.pairwise(times(config, alpha))):
        factor *= 1 + (following - time) * k * (1 if index in (3, 5, 7) else guidance)
    torch.testing.assert_close(end, noise() * factor, rtol=1e-5, atol=1e-6)


def test_which_steps_are_quiet():
    config = SamplerConfig(text_guidance=7, image_guidance=3, oscillation_start=2)
    assert [config.guidance(index) for index in (0, 1, 2, 3, 4)] == [(7, 3), (7, 3), (7, 3), (1, 1), (7, 3)]
    paper = SamplerConfig(text_guidance=7, image_guidance=3, oscillation_start=2, oscillation_text=False)
    assert paper.guidance(3) == (7, 1)
    assert SamplerConfig(oscillation=False).guidance(13) == (7.5, 3)


def test_a_negative_prompt_is_what_guidance_leads_away_from(tools):
    text = tools.text(1)
    negative = type(text)(text.t5, text.clip, text.t5, torch.full((1, 4), -2.0))
    model = tools.Field(lambda x, time, text, given: torch.zeros_like(x) + text)
    config = SamplerConfig(steps=3, text_guidance=4, oscillation=False)
    end = sample_latents(model, config, FlowConfig(), negative, SHAPE, [SEED])[0]
    torch.testing.assert_close(noise() - end, torch.full(SHAPE, -2.0 + 4 * (1 - -2)), rtol=0, atol=1e-5)


def test_only_image_to_video_has_dynamic_weights():
    weights = image_weights(SamplerConfig(steps=4, image_guidance=3), 0, ["i2v_loop", "v2v_head", "t2v"], 3)
    assert weights.shape == (3, 1, 3, 1, 1)
    assert weights.flatten(1).tolist() == [[1, 2, 3], [3, 3, 3], [3, 3, 3]]


@settings(max_examples=30)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_equal_velocities_stay_whatever_the_guidance(text_weight, image_weight):
    velocity = torch.arange(4.0).view(1, 1, 4, 1, 1)
    for forwards in (1, 2, 3):
        torch.testing.assert_close(combine([velocity] * forwards, text_weight, image_weight), velocity)


def test_settings_that_cannot_be_are_refused():
    for mistake, message in (
        ({"steps": 0}, "at least 1"),
        ({"shift": -1.0}, "positive"),
        ({"shift_rule": "x"}, "one of"),
    ):
        with pytest.raises(ValueError, match=message):
            SamplerConfig(**mistake)


def test_text_alone_needs_two_forwards_even_where_frames_could_be_given(tools):
    visual = VisualCondition(["t2v"], {"head": torch.zeros(1, 2, 1, 4, 4)})
    _, model = sample(tools, lambda x, t, text, given: x * 0, SamplerConfig(steps=1), visual=visual)
    assert [call["count"] for call in model.calls] == [2]
