"""LPIPS: its values, its laws, and files that it refuses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from zoetrope.model.checkpoint import read_weights, save_weights
from zoetrope.model.training.losses.perceptual import (
    PerceptualDistance,
    load_perceptual_distance,
    video_distance,
)


@pytest.fixture(scope="session")
def distance(lpips_file):
    return load_perceptual_distance(str(lpips_file))


def images(seed, count=1, height=16, width=16):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def straightforward(weights, first, second):
    """The paper's equation 1 on the features of VGG16, step by step."""
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    blocks = [(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)]

    def features(x):
        x = (x - shift) / scale
        for number, convolutions in enumerate(blocks):
            if number:
                x = F.max_pool2d(x, 2, 2)
            for index in convolutions:
                x = F.conv2d(
                    x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1
                ).relu()
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    total = torch.zeros(len(first))
    for number, (a, b) in enumerate(zip(features(first), features(second), strict=True)):
        weight = weights[f"lin{number}.model.1.weight"].view(1, -1, 1, 1)
        total += ((a - b).square() * weight).sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 50)])
def test_values_and_gradients_are_those_of_the_equations(distance, lpips_file, height, width):
    weights = read_weights(lpips_file)
    first, second = images(1, 2, height, width), images(2, 2, height, width)
    ours, theirs = first.clone().requires_grad_(), first.clone().requires_grad_()
    value, expected = distance(ours, second), straightforward(weights, theirs, second)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    value.sum().backward()
    expected.sum().backward()
    assert (ours.grad - theirs.grad).abs().max() < 1e-5 * theirs.grad.abs().max()


def test_the_names_are_those_of_the_published_files():
    state = PerceptualDistance().state_dict()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert set(state) == {f"features.{n}.{kind}" for n in convolutions for kind in ("weight", "bias")} | {
        f"lin{n}.model.1.weight" for n in range(5)
    }
    assert sum(tensor.numel() for name, tensor in state.items() if name.startswith("features")) == 14_714_688
    assert [state[f"lin{n}.model.1.weight"].shape for n in range(5)] == [
        (1, channels, 1, 1) for channels in (64, 128, 256, 512, 512)
    ]
    assert not any(parameter.requires_grad for parameter in PerceptualDistance().parameters())


@settings(max_examples=15)
@given(first=st.integers(0, 99), second=st.integers(0, 99))
def test_a_distance_is_symmetric_and_zero_for_equals_alone(distance, first, second):
    a, b = images(first), images(second)
    value = distance(a, b)
    torch.testing.assert_close(value, distance(b, a), rtol=1e-5, atol=1e-7)
    assert (value.item() == 0) == (first == second)
    assert value.item() >= 0


def test_the_distance_grows_with_distortion(distance):
    image, noise = images(0, 1, 32, 32), images(1, 1, 32, 32)
    values = [distance(image, image + strength * noise).item() for strength in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)]
    assert values == sorted(set(values))


def test_value_and_gradient_are_finite_where_no_feature_speaks(lpips_file, tmp_path):
    silent = read_weights(lpips_file)
    silent["features.2.bias"] = torch.full((64,), -100.0)
    distance = load_perceptual_distance(str(save_weights(silent, tmp_path / "silent.safetensors")))
    image = images(0).requires_grad_()
    value = distance(image, images(1)).sum()
    assert value.isfinite()
    value.backward()
    assert image.grad.isfinite().all()


def test_a_video_is_compared_frame_by_frame(distance):
    first, second = (torch.stack([images(seed + n, 2) for n in range(3)], 2) for seed in (0, 10))
    values = video_distance(distance, first, second)
    assert values.shape == (2, 3)
    for frame in range(3):
        torch.testing.assert_close(values[:, frame], distance(first[:, :, frame], second[:, :, frame]))


def test_what_cannot_be_compared_is_named(distance):
    with pytest.raises(ValueError, match=r"sides of at least 16 pixels, not \[1, 3, 15, 16\]"):
        distance(images(0, 1, 15, 16), images(0, 1, 15, 16))
    with pytest.raises(ValueError, match=r"not \[2, 3, 16, 16\] and \[1, 3, 16, 16\]"):
        distance(images(0, 2), images(0, 1))


def test_wrong_files_are_named(lpips_file, tmp_path):
    weights = read_weights(lpips_file)
    with pytest.raises(ValueError, match=r"names no file: give .* or say `perceptual: none`"):
        load_perceptual_distance("")
    with pytest.raises(ValueError, match=r"there is no file /nowhere: give .* or say `perceptual: none`"):
        load_perceptual_distance("/nowhere")
    pickled = tmp_path / "vgg.pth"
    torch.save(weights, pickled)
    with pytest.raises(ValueError, match="pickled checkpoint"):
        load_perceptual_distance(str(pickled))
    features = {name: tensor for name, tensor in weights.items() if name.startswith("features")}
    without_heads = save_weights(features, tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=r"5 missing \(lin0\.model\.1\.weight"):
        load_perceptual_distance(str(without_heads))
    wrong_sign = save_weights({**weights, "lin2.model.1.weight": -torch.ones(1, 256, 1, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"lin2\.model\.1\.weight has negative weights"):
        load_perceptual_distance(str(wrong_sign))
