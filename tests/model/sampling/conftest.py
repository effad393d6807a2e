"""Small models, and velocity fields whose flow is known in closed form."""

from types import SimpleNamespace

import pytest
import torch

from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.sampling import TextCondition, VisualCondition

SMALL = MMDiTConfig(
    in_channels=8, vec_in_dim=4, context_in_dim=4, hidden_size=24, num_heads=2, depth=1, depth_single_blocks=1,
    axes_dim=(4, 4, 4), mlp_ratio=1,
)  # fmt: skip


class Field:
    """Stands for the network: `field(x, t, text, given)` on tokens, with text and given as [B, 1, 1] of 0 and 1."""

    def __init__(self, field, config=SMALL):
        self.field, self.config = field, config
        self.img_in = SimpleNamespace(weight=torch.zeros(1))
        self.calls = []

    def __call__(self, img, img_ids, txt, txt_ids, timesteps, y_vec, *, cond, txt_len):
        self.calls.append({"count": len(img), "time": timesteps[0].item(), "cond": cond, "txt": txt, "len": txt_len})
        given = torch.zeros(len(img)) if cond is None else cond.flatten(1).any(1).float()
        return self.field(img, timesteps.view(-1, 1, 1), y_vec[:, 0].view(-1, 1, 1), given.view(-1, 1, 1))


def make_text(count, width=4):
    generator = torch.Generator().manual_seed(1)
    t5 = [torch.randn(2 + 3 * index, width, generator=generator) for index in range(count)]
    null = torch.randn(1, width, generator=generator)
    return TextCondition(t5, torch.ones(count, width), [null] * count, torch.zeros(count, width))


def make_images(kinds, channels=2, side=4):
    shape = (len(kinds), channels, 1, side, side)
    return VisualCondition(kinds, {"head": torch.full(shape, 3.0), "tail": torch.full(shape, 5.0)})


def make_random(config, scale):
    """A model of random weights everywhere, since a fresh one predicts nothing."""
    model = MMDiT(config).initialise(0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def tools():
    return SimpleNamespace(
        SMALL=SMALL, Field=Field, text=make_text, images=make_images, random_model=make_random, SHAPE=(2, 3, 4, 4)
    )
