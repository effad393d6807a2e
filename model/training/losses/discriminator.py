"""The discriminator: a 3D PatchGAN, which judges every patch of a video (Isola et al. 2016, arXiv 1611.07004)."""

from __future__ import annotations

from math import ceil, prod

import torch
from torch import Tensor, nn

KERNEL = 3
SLOPE = 0.2  # of the leaky ReLU below 0
WIDEST = 8  # channels double with each strided convolution up to this multiple of the first (PatchGAN, released code)
HALVES_TIME = 2  # the first two strided convolutions shrink time too (Open-Sora 2.0, released code)
INITIAL_STD = 0.02  # of weights, and of normalisation scales around 1 (PatchGAN, released code)


def _stride(layer: int) -> tuple[int, int, int]:
    return (2 if layer < HALVES_TIME else 1, 2, 2)


class PatchDiscriminator(nn.Module):
    """Strided convolutions, one more without stride, and a last one to a single channel.

    What the released code's list of numbers leaves open is done as in the image PatchGAN: the first and the last
    convolution have a bias and no normalisation, the others a normalisation and no bias; padding 1; dropout follows
    every normalised layer's leaky ReLU.

    Batch normalisation takes its statistics from the batch that it is given, always: a discriminator is never used in
    evaluation, so running averages, on which the workers would have to agree, are not kept.
    """

    def __init__(self, channels: int = 64, layers: int = 5, dropout: float = 0.3) -> None:
        """The defaults are Open-Sora 2.0's (released code).

        Args:
            channels: of the first convolution.
            layers: strided convolutions.
            dropout: probability.
        """
        super().__init__()
        self.layers = layers
        parts: list[nn.Module] = [nn.Conv3d(3, channels, KERNEL, _stride(0), padding=1), nn.LeakyReLU(SLOPE)]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, WIDEST)
            stride = _stride(layer) if layer < layers else (1, 1, 1)
            parts += [
                nn.Conv3d(width, wider, KERNEL, stride, padding=1, bias=False),
                nn.BatchNorm3d(wider, track_running_stats=False),
                nn.LeakyReLU(SLOPE),
                nn.Dropout(dropout),
            ]
            width = wider
        parts.append(nn.Conv3d(width, 1, KERNEL, padding=1))
        self.parts = nn.Sequential(*parts)

    def initialise(self, seed: int) -> PatchDiscriminator:
        """Fills all weights from a seed: normal of standard deviation 0.02 (scales around 1), biases zero."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.parts:
            if isinstance(module, nn.Conv3d | nn.BatchNorm3d):
                around = 1.0 if isinstance(module, nn.BatchNorm3d) else 0.0
                nn.init.normal_(module.weight, around, INITIAL_STD, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return self

    def forward(self, video: Tensor) -> Tensor:
        """How real each patch looks.

        Args:
            video: [B, 3, T, H, W] in [-1, 1]; T = 1, an image, is judged by the same weights.

        Returns:
            [B, 1, T', H', W'], unbounded; T' is T / 4 and H' is H / 2^layers, both rounded up.

        Raises:
            ValueError: the video is so small that batch normalisation would have one value of a channel.
        """
        sizes = video.shape[2:]
        for layer in range(self.layers):
            sizes = [ceil(size / by) for size, by in zip(sizes, _stride(layer), strict=True)]  # type: ignore[assignment]
        if len(video) * prod(sizes) == 1:
            count, _, frames, height, width = video.shape
            raise ValueError(
                f"the discriminator shrinks {count} x {frames} frames of {height}x{width} to one patch and needs two "
                f"for its batch statistics: give a larger batch or larger frames, or lower losses.adversarial.layers"
            )
        out: Tensor = self.parts(video)
        return out
