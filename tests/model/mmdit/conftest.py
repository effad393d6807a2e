"""Small models with random weights and their inputs."""

from types import SimpleNamespace

import pytest
import torch

from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.packing import image_ids, text_ids

SMALL = MMDiTConfig(
    in_channels=16,
    vec_in_dim=12,
    context_in_dim=20,
    hidden_size=64,
    num_heads=2,
    depth=2,
    depth_single_blocks=3,
    axes_dim=(8, 12, 12),
)


def randomise(module, seed=0):
    """Random weights of the usual size, in the order of their names; none is zero, so that every part takes part."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise * parameter.shape[1] ** -0.5)
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))
    return module


def inputs(config, *, batch=2, text=7, frames=3, height=4, width=8, seed=1):
    """A padded batch as keyword arguments of the MMDiT, without condition."""
    generator = torch.Generator().manual_seed(seed)
    ids = image_ids(batch, frames, height, width, config.patch_size)
    return {
        "img": torch.randn(batch, ids.shape[1], config.in_channels, generator=generator),
        "img_ids": ids,
        "txt": torch.randn(batch, text, config.context_in_dim, generator=generator),
        "txt_ids": text_ids(batch, text),
        "timesteps": torch.rand(batch, generator=generator),
        "y_vec": torch.randn(batch, config.vec_in_dim, generator=generator),
    }


def difference(found, wanted):
    """max|difference| / max|reference|."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.fixture
def small():
    return SimpleNamespace(config=SMALL, randomise=randomise, inputs=inputs, difference=difference)
