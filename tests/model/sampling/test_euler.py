"""Seeds, batches, given frames, time shift."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from zoetrope.model.flow import FlowConfig, time_shift
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.packing import patchify
from zoetrope.model.sampling import SamplerConfig, TextCondition, VisualCondition, sample_latents

SHAPE = (2, 3, 4, 4)


@pytest.mark.parametrize(("kind", "head", "tail"), [("i2v_head", 1, 0), ("i2v_tail", 0, 1), ("i2v_loop", 1, 1)])
def test_given_frames_are_kept_bit_for_bit(tools, kind, head, tail):
    generator = torch.Generator().manual_seed(3)
    frames = {name: torch.randn(1, 2, 1, 4, 4, generator=generator) for name in ("head", "tail")}
    frames["head"][0, :, 0, 0] = -0.0  # which an addition of +0.0 would lose
    model, visual = tools.random_model(tools.SMALL, 0.2), VisualCondition([kind], frames)
    out = sample_latents(model, SamplerConfig(steps=2), FlowConfig(), tools.text(1), SHAPE, [1], visual=visual)
    for place, name, expected in ((0, "head", head), (-1, "tail", tail)):
        same = torch.equal(out[0, :, place].view(torch.int32), frames[name][0, :, 0].view(torch.int32))
        assert same == bool(expected)
    assert not (out[0, :, 1] == frames["head"][0, :, 0]).any()


def test_a_video_goes_on_from_the_given_latents(tools):
    given = torch.randn(1, 2, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    model, visual = tools.random_model(tools.SMALL, 0.2), VisualCondition(["v2v_head"], {"head_short": given})
    out = sample_latents(model, SamplerConfig(steps=2), FlowConfig(), tools.text(1), SHAPE, [1], visual=visual)
    assert torch.equal(out[0, :, :2], given[0])
    assert not (out[0, :, 2] == given[0, :, 1]).any()


def test_kinds_may_differ_within_a_batch(tools):
    model, kinds = tools.random_model(tools.SMALL, 0.2), ["i2v_head", "i2v_loop", "t2v"]
    config = SamplerConfig(steps=2, batched_forwards=True)
    out = sample_latents(model, config, FlowConfig(), tools.text(3), SHAPE, [1, 2, 3], visual=tools.images(kinds))
    assert (out[:2, :, 0] == 3).all()
    assert (out[1, :, -1] == 5).all()
    assert not (out[0, :, -1] == 5).any()
    assert not (out[2, :, 0] == 3).any()


@pytest.mark.parametrize("kinds", [None, ["i2v_head", "t2v", "i2v_loop", "i2v_tail"]])
def test_a_video_is_the_same_in_any_batch(tools, kinds):
    """Nano size, prompts of different lengths: bit for bit by default, within 1e-5 with shared forwards."""
    model, shape = tools.random_model(MMDiTConfig.nano(), 0.05), (8, 4, 8, 8)
    text, seeds = tools.text(4, width=64), [4, 5, 6, 7]
    visual = None if kinds is None else tools.images(kinds, 8, 8)

    def sample(**settings):
        config = SamplerConfig(steps=20, **settings)
        return sample_latents(model, config, FlowConfig(), text, shape, seeds, visual=visual)

    alone = sample(batch_size=1)
    assert torch.equal(sample(batch_size=4), alone)
    assert (sample(batch_size=4, batched_forwards=True) - alone).abs().max() < 1e-5
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_noise_comes_from_the_seed_and_the_text_matters(tools):
    model = tools.random_model(tools.SMALL, 0.2)
    text = tools.text(3)
    text = TextCondition([text.t5[0], text.t5[0], text.t5[2]], text.clip, text.negative_t5, text.negative_clip)
    one, same, other = sample_latents(model, SamplerConfig(steps=3), FlowConfig(), text, SHAPE, [4, 4, 4])
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-3)


def test_padded_text_takes_part_without_a_mask(tools):
    """Embeddings of one length, as the padded mode gives them: no lengths go to the model."""
    model = tools.Field(lambda x, t, text, given: x * 0)
    same = [torch.ones(6, 4)] * 2
    text = TextCondition(same, torch.ones(2, 4), same, torch.zeros(2, 4))
    sample_latents(model, SamplerConfig(steps=1, batched_forwards=True), FlowConfig(), text, SHAPE, [0, 1])
    assert model.calls[0]["len"] is None
    assert model.calls[0]["txt"].shape == (4, 6, 4)
    ragged = tools.Field(lambda x, t, text, given: x * 0)
    sample_latents(ragged, SamplerConfig(steps=1, batched_forwards=True), FlowConfig(), tools.text(2), SHAPE, [0, 1])
    assert ragged.calls[0]["len"].tolist() == [2, 5, 1, 1]


def _append(told, done, total):
    told.append((done, total))


def test_progress_counts_steps(tools):
    model = tools.Field(lambda x, t, text, given: x * 0)
    for batched, total in ((False, 6), (True, 4)):
        told: list[tuple[int, int]] = []
        config = SamplerConfig(steps=2, batch_size=2, batched_forwards=batched)
        stepped = partial(_append, told)
        sample_latents(model, config, FlowConfig(), tools.text(3), SHAPE, range(3), on_step=stepped)
        assert told == [(step + 1, total) for step in range(total)]


def test_images_are_videos_of_one_frame(tools):
    model = tools.random_model(tools.SMALL, 0.2)
    out = sample_latents(model, SamplerConfig(steps=2), FlowConfig(), tools.text(1), (2, 1, 4, 4), [0])
    assert out.shape == (1, 2, 1, 4, 4)


def test_the_shift_comes_from_sampler_then_flow():
    shape, patch = (128, 32, 24, 24), 1
    flow = FlowConfig(shift_rule="released_training", inference_shift_rule="released_inference")
    assert SamplerConfig().time_shift(flow, shape, patch) == time_shift(shape, patch, "released_inference")
    without = replace(flow, inference_shift_rule="")
    assert SamplerConfig().time_shift(without, shape, patch) == time_shift(shape, patch, "released_training")
    assert SamplerConfig(shift_rule="paper").time_shift(flow, shape, patch) == time_shift(shape, patch, "paper")
    assert SamplerConfig().time_shift(replace(flow, shift=4.0), shape, patch) == 4
    assert SamplerConfig(shift=2.0, shift_rule="paper").time_shift(replace(flow, shift=4.0), shape, patch) == 2


def test_the_shift_sets_the_times_of_the_steps(tools):
    model = tools.Field(lambda x, t, text, given: x * 0)
    sample_latents(model, SamplerConfig(steps=2, shift=3.0), FlowConfig(), tools.text(1), SHAPE, [0])
    assert [call["time"] for call in model.calls] == [1, 0.75]


def test_the_condition_that_the_model_sees_is_packed_like_the_latents(tools):
    model = tools.Field(lambda x, t, text, given: x * 0)
    sample_latents(
        model, SamplerConfig(steps=1), FlowConfig(), tools.text(1), SHAPE, [0], visual=tools.images(["i2v_tail"])
    )
    expected = torch.zeros(1, 3, 3, 4, 4)
    expected[:, 0, -1], expected[:, 1:, -1] = 1, 5
    both, image_only, neither = model.calls[0]["cond"]
    assert torch.equal(both, patchify(expected, 2)[0])
    assert torch.equal(image_only, both)
    assert not neither.any()


def test_mistakes_are_named(tools):
    def sample(model, visual=None, seeds=(1,), shape=SHAPE):
        return sample_latents(model, SamplerConfig(), FlowConfig(), tools.text(1), shape, seeds, visual=visual)

    model = tools.Field(None)
    with pytest.raises(ValueError, match="1 prompts need 1 seeds"):
        sample(model, seeds=[1, 2])
    with pytest.raises(ValueError, match="latents of 5 channels for a model of 2"):
        sample(model, shape=(5, 3, 4, 4))
    with pytest.raises(ValueError, match=r"unknown condition 'v2v_half'.*v2v_head"):
        sample(model, tools.images(["v2v_half"]))
    with pytest.raises(ValueError, match="needs the reference 'head_short'; given: head, tail"):
        sample(model, tools.images(["v2v_head"]))
    with pytest.raises(ValueError, match="gives 4 latent frames, the video has 3"):
        sample(model, VisualCondition(["v2v_head"], {"head_short": torch.zeros(1, 2, 4, 4, 4)}))
    with pytest.raises(ValueError, match="patches of 2x2"):
        sample(model, shape=(2, 3, 4, 5))
    model.config = replace(tools.SMALL, cond_embed=False)
    with pytest.raises(ValueError, match="takes no images"):
        sample(model, tools.images(["i2v_head"]))
