"""Flow matching: schedule, path, loss, packing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.model.flow import (
    FlowConfig,
    model_time,
    noisy_sample_and_target,
    shift_time,
    time_of,
    time_shift,
)
from zoetrope.model.mmdit.layers import timestep_embedding
from zoetrope.model.packing import image_ids, patchify, text_ids, unpatchify


def normal(count, seed):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("frames", "side", "alpha"),
    [(1, 32, 1.0), (9, 32, 3.0), (33, 32, 5.74), (1, 96, 2.07), (9, 96, 6.2), (33, 96, 11.87)],
)
def test_time_shift_of_the_published_sizes(frames, side, alpha):
    assert time_shift((16, frames, side, side), 2) == pytest.approx(alpha, abs=0.005)


@pytest.mark.parametrize(("rule", "alpha"), [("released_training", 5.33), ("released_inference", 6.60)])
def test_the_released_rules_differ_without_patches(rule, alpha):
    """The Video DC-AE at 768px, 128 frames: 24 x 24 latents, patch 1."""
    assert time_shift((128, 32, 24, 24), 1, rule) == pytest.approx(alpha, abs=0.005)


@given(st.integers(1, 40), st.integers(1, 100), st.integers(1, 100))
def test_the_released_rules_agree_at_patch_two(frames, height, width):
    shape = (16, frames, 2 * height, 2 * width)
    assert time_shift(shape, 2, "released_training") == time_shift(shape, 2, "released_inference") > 0


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(1, 2))
def test_the_papers_rule_is_proportional_to_the_volume(frames, height, width, patch):
    one = time_shift((16, 1, 2 * height, 2 * width), patch, "paper")
    assert time_shift((16, 2 * frames, 2 * height, 6 * width), patch, "paper") == pytest.approx(6 * frames * one)
    assert time_shift((16, 1, 32, 32), 2, "paper") == 1


def test_shift_keeps_the_ends_and_moves_the_middle_to_noise():
    shifted = shift_time(torch.tensor([0.0, 0.5, 1.0]), 3.0)
    torch.testing.assert_close(shifted, torch.tensor([0.0, 0.75, 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_reads_the_time_as_precisely_as_the_flow_says(dtype):
    time = torch.linspace(0, 1, 1001)
    assert torch.equal(model_time(FlowConfig(), time, dtype), time)
    released = model_time(FlowConfig(time_precision="released"), time, dtype)
    assert released.dtype == dtype
    error = (timestep_embedding(released, 8)[:, 0].acos() - timestep_embedding(time, 8)[:, 0].acos()).abs().max()
    assert error == 0 if dtype == torch.float32 else error > 1
    # the released code: t.to(bfloat16), then 1000.0 * t in bfloat16, then float32
    expected = (1000.0 * time.to(dtype)).float()
    torch.testing.assert_close(timestep_embedding(released, 8)[:, 0], expected.cos(), rtol=0, atol=0)


def test_training_times_are_shifted_and_repeatable():
    shape = (16, 9, 32, 32)
    times = [time_of(FlowConfig(), normal(4000, 5), shape, 2) for _ in range(2)]
    assert torch.equal(*times)
    assert 0 < times[0].min() < times[0].max() < 1
    assert times[0].median() == pytest.approx(0.75, abs=0.02)
    unshifted = time_of(FlowConfig(shift=1.0), normal(4000, 5), shape, 2)
    assert unshifted.median() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("sigma_min", [1e-5, 0.0, 0.1])
def test_velocity_is_the_derivative_of_the_path(sigma_min):
    clean, noise = torch.randn(2, 3, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    config, time, step = FlowConfig(sigma_min=sigma_min), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), 1e-4
    before, velocity = noisy_sample_and_target(config, clean, noise, time)
    after, _ = noisy_sample_and_target(config, clean, noise, time + step)
    torch.testing.assert_close((after - before) / step, velocity, rtol=1e-4, atol=1e-6)
    pure, _ = noisy_sample_and_target(config, clean, noise, torch.ones(3))
    torch.testing.assert_close(pure, noise)


def test_the_papers_velocity_is_the_other_way_round():
    clean, noise = torch.randn(2, 3, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    time = torch.tensor([0.1, 0.5, 0.9])
    paper = FlowConfig(velocity="paper", sigma_min=0.0)
    noisy, target = noisy_sample_and_target(paper, clean, noise, time)
    t = time.view(-1, 1, 1, 1, 1)
    assert torch.equal(noisy, (1 - t) * clean + (1 - (1 - t)) * noise)
    assert torch.equal(target, clean - noise)


def test_logit_normal_times_follow_mean_and_spread():
    config = FlowConfig(shift=1.0, logit_mean=1.0, logit_std=0.5)
    logits = torch.logit(time_of(config, normal(8000, 1), (4, 1, 8, 8), 2))
    assert logits.mean() == pytest.approx(1.0, abs=0.02)
    assert logits.std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"velocity": "backwards"}, "velocity has to be one of released, paper, not 'backwards'"),
        ({"shift_rule": "linear"}, "shift_rule has to be one of released_training, released_inference, paper"),
        ({"inference_shift_rule": "linear"}, "not 'linear'"),
        ({"time_precision": "bfloat16"}, "time_precision has to be one of released, float32, not 'bfloat16'"),
        ({"sigma_min": 1.0}, r"sigma_min 1\.0 has to be in"),
        ({"shift": -1.0}, "at least 0"),
    ],
)
def test_conventions_that_do_not_exist_are_refused(mistake, message):
    with pytest.raises(ValueError, match=message):
        FlowConfig(**mistake)


def test_packing_and_back():
    latent = torch.arange(2 * 3 * 2 * 4 * 6).float().view(2, 3, 2, 4, 6)
    tokens = patchify(latent, 2)
    assert tokens.shape == (2, 2 * 2 * 3, 12)
    # features (c, ph, pw) of the token at t 1, h 1, w 2
    assert torch.equal(tokens[1, 11].view(3, 2, 2), latent[1, :, 1, 2:4, 4:6])
    assert torch.equal(unpatchify(tokens, 2, 4, 6, 2), latent)
    with pytest.raises(ValueError, match="patches of 4x4"):
        patchify(latent, 4)


def test_positions_count_patches_from_zero():
    ids = image_ids(2, 2, 4, 6, 2)
    assert ids.shape == (2, 12, 3)
    assert ids[1, 0].tolist() == [0, 0, 0]
    assert ids[1, 11].tolist() == [1, 1, 2]
    assert not text_ids(2, 5).any()
