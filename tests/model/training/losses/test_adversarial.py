"""The discriminator, the hinge losses and the weight of the game."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.model.training.config import AdversarialConfig, OptimizerConfig
from zoetrope.model.training.losses.adversarial import Adversary, adaptive_ratio, generator_loss, hinge_loss
from zoetrope.model.training.losses.discriminator import PatchDiscriminator
from zoetrope.model.training.process_group import ProcessGroup

ALONE, CPU = ProcessGroup(), torch.device("cpu")
SMALL = AdversarialConfig(channels=4, layers=2, optimizer=OptimizerConfig(learning_rate=3e-3, betas=(0.5, 0.9)))
judgements = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8)


def videos(seed, count=2, frames=4, size=16):
    return torch.rand(count, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@given(real=judgements, fake=judgements)
def test_hinge_losses_are_their_formulas(real, fake):
    value = hinge_loss(torch.tensor(real), torch.tensor(fake)).item()
    expected = 0.5 * (np.maximum(0, 1 - np.array(real)).mean() + np.maximum(0, 1 + np.array(fake)).mean())
    assert value == pytest.approx(expected, abs=1e-6)
    assert (value == 0) == (min(real) >= 1 and max(fake) <= -1)
    assert generator_loss(torch.tensor(fake)).item() == pytest.approx(-np.mean(fake), abs=1e-6)


def test_hinge_loss_of_an_undecided_discriminator_is_one():
    assert hinge_loss(torch.zeros(3), torch.zeros(2)).item() == 1
    assert hinge_loss(torch.tensor([2.0]), torch.tensor([3.0])).item() == 2


@given(pull=st.floats(0.01, 100), push=st.floats(0.01, 100), seed=st.integers(0, 9))
def test_the_ratio_of_a_linear_decoder_is_known(pull, push, seed):
    weight = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    video = weight @ torch.tensor([1.0, 2.0, 2.0])  # each row's gradient is the vector itself: length sqrt(2) * 3
    ratio = adaptive_ratio(pull * video.sum(), -push * video.sum(), weight, ALONE)
    length = 3 * 2**0.5
    assert ratio.item() == pytest.approx(pull * length / (push * length + 1e-4), rel=1e-5)
    assert not ratio.requires_grad


def test_the_ratio_is_bounded_where_the_discriminator_is_silent():
    weight = torch.ones(1, requires_grad=True)
    assert adaptive_ratio(5 * weight.sum(), 0 * weight.sum(), weight, ALONE).item() == 1e4
    assert adaptive_ratio(0.5 * weight.sum(), 0 * weight.sum(), weight, ALONE).item() == pytest.approx(5e3)


def test_the_released_discriminator():
    with torch.device("meta"):
        model = PatchDiscriminator()
        out = model(torch.empty(1, 3, 32, 256, 256))
    assert out.shape == (1, 1, 8, 8, 8)
    widths = [64, 128, 256, 512, 512, 512]
    strided = sum(27 * a * b + 2 * b for a, b in pairwise(widths))
    assert sum(parameter.numel() for parameter in model.parameters()) == (81 * 64 + 64) + strided + (27 * 512 + 1)


@pytest.mark.parametrize(("frames", "size", "patches"), [(4, 16, (1, 4, 4)), (1, 16, (1, 4, 4)), (9, 17, (3, 5, 5))])
def test_patches_of_videos_and_single_frames(frames, size, patches):
    model = PatchDiscriminator(channels=4, layers=2).initialise(0)
    assert model(videos(0, frames=frames, size=size)).shape == (2, 1, *patches)


def test_one_patch_is_too_few_for_batch_statistics():
    model = PatchDiscriminator(channels=4, layers=3).initialise(0)
    with pytest.raises(ValueError, match=r"1 x 1 frames of 8x8 to one patch .* lower losses\.adversarial\.layers"):
        model(videos(0, count=1, frames=1, size=8))
    assert model(videos(0, count=2, frames=1, size=8)).shape == (2, 1, 1, 1, 1)


def test_a_seed_names_the_weights():
    first, second, other = (PatchDiscriminator(4, 2).initialise(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())
    assert not torch.equal(first["parts.0.weight"], other["parts.0.weight"])


def test_first_weights_are_normal_around_zero_and_scales_around_one():
    model = PatchDiscriminator(16, 3).initialise(0)
    state = model.state_dict()
    assert state["parts.2.weight"].mean().item() == pytest.approx(0, abs=2e-3)
    assert state["parts.2.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["parts.3.weight"].mean().item() == pytest.approx(1, abs=0.02)
    assert not any(state[f"parts.{index}.bias"].any() for index in (0, 3))


def test_the_gradient_of_the_generator_passes_the_discriminator_by():
    adversary = Adversary(SMALL, 10, 0, ALONE, CPU)
    before = {name: tensor.clone() for name, tensor in adversary.discriminator.state_dict().items()}
    reconstruction = videos(0).requires_grad_()
    adversary.adversarial_loss(reconstruction, 0).backward()
    assert reconstruction.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in adversary.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in adversary.discriminator.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in adversary.discriminator.state_dict().items())


def test_dropout_is_of_the_step_and_leaves_no_trace():
    adversary, neighbour = (Adversary(SMALL, 10, 0, ProcessGroup(rank), CPU) for rank in (0, 1))
    state = torch.random.get_rng_state()
    first, again, later = (adversary.adversarial_loss(videos(0), step).item() for step in (3, 3, 4))
    other_rank = neighbour.adversarial_loss(videos(0), 3).item()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again
    assert len({first, later, other_rank}) == 3


def blocky(seed, count=2):
    return videos(seed, count, size=4).repeat_interleave(4, -1).repeat_interleave(4, -2)


def test_the_discriminator_learns_to_tell_two_kinds_apart():
    optimizer = OptimizerConfig(learning_rate=1e-2, betas=(0.5, 0.99))
    adversary = Adversary(replace(SMALL, channels=8, dropout=0.1, optimizer=optimizer), 100, 0, ALONE, CPU)
    losses = [adversary.train_step(videos(1000 + step, 4), blocky(step, 4), step).item() for step in range(100)]
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert np.mean(losses[-5:]) < 0.3
    judge = adversary.discriminator
    assert judge(videos(99)).mean() > 0.3 > -0.3 > judge(blocky(99)).mean()


def test_a_gradient_without_end_is_named():
    adversary = Adversary(SMALL, 10, 0, ALONE, CPU)
    before = {name: tensor.clone() for name, tensor in adversary.discriminator.state_dict().items()}
    for step in (3, 4):
        adversary.train_step(videos(0) * float("inf"), videos(1), step)
    assert all(torch.equal(tensor, before[name]) for name, tensor in adversary.discriminator.state_dict().items())
    with pytest.raises(ValueError, match=r"training of the discriminator: the gradient was not finite in 2 steps"):
        adversary.check()
    adversary.train_step(videos(0) * float("inf"), videos(1), 5)
    adversary.train_step(videos(0), videos(1), 6)
    adversary.check()


@pytest.mark.parametrize(
    "wrong",
    [{"weight": 0}, {"start": -1}, {"dropout": 1}, {"optimizer": OptimizerConfig(ema_decay=0.9)}, {"layers": 0}],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"has to be|have to be"):
        AdversarialConfig(**wrong)
