"""Packs on their way to a device."""

from dataclasses import fields

import torch

from zoetrope.model.attention import PackedLengths
from zoetrope.model.training.samples import DrawnSample, make_pack


def drawn(tokens, text):
    return DrawnSample(
        noisy=torch.randn(tokens, 4),
        target=torch.randn(tokens, 4),
        ids=torch.zeros(tokens, 3, dtype=torch.int64),
        cond=None,
        counted=None,
        time=torch.tensor(0.5),
        t5=torch.randn(text, 8),
        clip=torch.randn(6),
        kind="t2v",
        name="clip",
    )


def test_all_of_a_pack_moves_its_lengths_too():
    pack = make_pack([drawn(6, 3), drawn(4, 2)])
    moved = pack.to(torch.device("meta"))
    devices = {}
    for field in fields(moved):
        value = getattr(moved, field.name)
        if isinstance(value, PackedLengths):
            value = value.cumulative
        if isinstance(value, torch.Tensor):
            devices[field.name] = value.device.type
    assert {"noisy", "weight", "images", "texts"} < devices.keys() and set(devices.values()) == {"meta"}
    assert (moved.images.each, moved.images.total, moved.images.longest) == ((6, 4), 10, 6)
    assert moved.losses is pack.losses
