"""LPIPS: how different two images look, by the features of VGG16 (Zhang et al. 2018, arXiv 1801.03924; version 0.1).

Both images go through the convolutions of VGG16. After the last ReLU of each of its five blocks the feature vectors of
every pixel are scaled to length 1, and the squared differences of their channels are weighted with learned
non-negative weights, summed over channels, averaged over pixels and added up over the blocks.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from zoetrope.model.checkpoint import load_weights

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of the five blocks of VGG16 (Simonyan and Zisserman 2014, table 1, column D)."""

# LPIPS maps [-1, 1] to about what VGG16 was trained on: (2 * mean - 1) and 2 * std of ImageNet, rounded as released.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

SMALLEST = 2 ** (len(BLOCKS) - 1)
"""Pixels of the smallest side whose last block still has a pixel: one halving between each two blocks."""

NORM_FLOOR = 1e-10  # added to the length of a feature vector before dividing (LPIPS, released code)


class Head(nn.Module):
    """Weights the channels of one block; named as LPIPS's own, whose place 0 is a dropout of its training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, squares: Tensor) -> Tensor:
        """[N, C, H, W] -> [N]."""
        out: Tensor = self.model(squares)
        return out.mean((1, 2, 3))


class PerceptualDistance(nn.Module):
    """LPIPS with frozen weights: keys `features.N.{weight,bias}` of VGG16 and `linN.model.1.weight` of LPIPS."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, self.taps = 3, set[int]()
        for channels, count in BLOCKS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
                inputs = channels
            self.taps.add(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        for index, (channels, _) in enumerate(BLOCKS):
            self.add_module(f"lin{index}", Head(channels))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The distance of each image of one batch from its counterpart in the other.

        Args:
            first: [N, 3, H, W] in [-1, 1], float32.
            second: likewise.

        Returns:
            [N], float32, at least 0; 0 for equal images.

        Raises:
            ValueError: other shapes, or a side below 16 pixels.
        """
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3 or min(first.shape[2:]) < SMALLEST:
            raise ValueError(
                f"LPIPS compares two [N, 3, H, W] with sides of at least {SMALLEST} pixels, not {list(first.shape)} "
                f"and {list(second.shape)}"
            )
        distance = first.new_zeros(len(first))
        ours, theirs = (first - self.shift) / self.scale, (second - self.shift) / self.scale
        block = 0
        for index, layer in enumerate(self.features):
            ours, theirs = layer(ours), layer(theirs)
            if index in self.taps:
                difference = _of_length_one(ours) - _of_length_one(theirs)
                distance = distance + self.get_submodule(f"lin{block}")(difference.square())
                block += 1
        return distance


def _of_length_one(features: Tensor) -> Tensor:
    features = features.float()
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (length + NORM_FLOOR)


def video_distance(distance: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """LPIPS of two videos frame by frame.

    Args:
        distance: a `PerceptualDistance`.
        first: [B, 3, T, H, W] in [-1, 1].
        second: likewise.

    Returns:
        [B, T], float32.
    """
    count, _, frames = first.shape[:3]
    flat = [video.transpose(1, 2).flatten(0, 1) for video in (first, second)]
    out: Tensor = distance(*flat)
    return out.view(count, frames)


def load_perceptual_distance(weights: str) -> PerceptualDistance:
    """LPIPS with the weights of the user's file.

    Args:
        weights: path of a safetensors file; model/README.md tells how to make it from the two published ones.

    Raises:
        ValueError: no file is named or there, it is a pickle or damaged, its names or shapes are others, or a weight
            of a head is negative.
    """
    ways_out = (
        "give the weights of VGG16 and LPIPS as safetensors (model/README.md tells how to make the file), or say "
        "`perceptual: none`"
    )
    if not weights:
        raise ValueError(f"losses.perceptual.weights names no file: {ways_out}")
    if not Path(weights).is_file():
        raise ValueError(f"losses.perceptual.weights: there is no file {weights}: {ways_out}")
    model = PerceptualDistance()
    load_weights(model, Path(weights))
    for name, tensor in model.state_dict().items():
        if name.startswith("lin") and bool((tensor < 0).any()):
            raise ValueError(f"{weights}: {name} has negative weights; the heads of LPIPS are non-negative")
    return model
