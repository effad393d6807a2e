"""Flow matching: schedule, path, conditions, packing."""

from collections import Counter

import pytest
import torch

from zoetrope.model.conditions import check_weights, condition_latents, draw_conditions
from zoetrope.model.flow import (
    FlowConfig,
    flow_loss,
    noisy_sample_and_target,
    sample_time,
    shift_time,
    time_shift,
)
from zoetrope.model.packing import image_ids, patchify, text_ids, unpatchify


@pytest.mark.parametrize(
    ("frames", "side", "alpha"),
    [(1, 32, 1.0), (9, 32, 3.0), (33, 32, 5.74), (1, 96, 2.07), (9, 96, 6.2), (33, 96, 11.87)],
)
def test_time_shift_of_the_published_sizes(frames, side, alpha):
    assert time_shift((16, frames, side, side), 2) == pytest.approx(alpha, abs=0.005)


def test_shift_keeps_the_ends_and_moves_the_middle_to_noise():
    shifted = shift_time(torch.tensor([0.0, 0.5, 1.0]), 3.0)
    torch.testing.assert_close(shifted, torch.tensor([0.0, 0.75, 1.0]))


def test_training_times_are_shifted_and_repeatable():
    shape = (16, 9, 32, 32)
    times = [sample_time(FlowConfig(), 4000, shape, 2, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*times)
    assert 0 < times[0].min() < times[0].max() < 1
    assert times[0].median() == pytest.approx(0.75, abs=0.02)
    unshifted = sample_time(FlowConfig(shift=1.0), 4000, shape, 2, torch.Generator().manual_seed(5))
    assert unshifted.median() == pytest.approx(0.5, abs=0.02)


def test_velocity_is_the_derivative_of_the_path():
    clean, noise = torch.randn(2, 3, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    config, time, step = FlowConfig(), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), 1e-4
    before, velocity = noisy_sample_and_target(config, clean, noise, time)
    after, _ = noisy_sample_and_target(config, clean, noise, time + step)
    torch.testing.assert_close((after - before) / step, velocity, rtol=1e-4, atol=1e-6)
    pure, _ = noisy_sample_and_target(config, clean, noise, torch.ones(3))
    torch.testing.assert_close(pure, noise)


def test_the_loss_is_taken_in_float32():
    loss = flow_loss(torch.full((4,), 300.0, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
    assert loss.item() == 90_000


def test_conditions_give_frames_and_nothing_else():
    head, tail = torch.full((4, 2, 1, 3, 3), 5.0), torch.full((4, 2, 1, 3, 3), 7.0)
    condition = condition_latents(["t2v", "i2v_head", "i2v_tail", "i2v_loop"], head, tail, 4)
    assert condition.shape == (4, 3, 4, 3, 3)
    assert condition[:, 0, :, 0, 0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]]
    assert condition[:, 1, :, 0, 0].tolist() == [[0, 0, 0, 0], [5, 0, 0, 0], [0, 0, 0, 7], [5, 0, 0, 7]]
    image = condition_latents(["i2v_head"], head[:1], tail[:1], 1)
    assert not image.any()


def test_conditions_are_drawn_by_weight():
    drawn = Counter(draw_conditions({"t2v": 1, "i2v_head": 5, "i2v_tail": 0, "i2v_loop": 2}, 4000, torch.Generator()))
    assert set(drawn) == {"t2v", "i2v_head", "i2v_loop"}
    assert drawn["i2v_head"] / 4000 == pytest.approx(5 / 8, abs=0.03)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"i2v": 1}, "unknown condition 'i2v'"), ({"t2v": -1}, "positive"), ({"t2v": 0}, "positive"), ({}, "positive")],
)
def test_condition_weights_are_checked(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights)


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
