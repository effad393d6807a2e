"""A small training with all that a checkpoint keeps, and stores that fail as told."""

import torch
from torch import nn

from zoetrope.model.training.checkpoints import Checkpoints, Identity, LocalCheckpointStore, TrainingState

SETTINGS = {"stage": {"steps": 100, "rate": 0.01}, "data": "abc", "save_every": 5}
MAY_CHANGE = ("stage.steps", "save_every")


class Network(nn.Module):
    """Odd sizes, a scalar, a buffer, and a parameter that is never used."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 3)
        self.scale = nn.Parameter(torch.randn(1))
        self.unused = nn.Parameter(torch.randn(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.seen += 1
        return self.second(self.first(x).relu()) * self.scale


class Training:
    """`step` learns from data that depend on the step's number alone."""

    def __init__(self, seed=0, shard=lambda model: model):
        self.model = shard(Network(seed))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.ema = {name: value.detach().clone() for name, value in self.named()}
        self.state = TrainingState(self.model, self.optimizer, self.ema)
        self.steps = 0

    def named(self):
        """Parameters under the names of the plain model."""
        return [(name.removeprefix("module."), value) for name, value in self.model.named_parameters()]

    def step(self):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(self.steps))
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, value in self.named():
            self.ema[name].lerp_(value.detach(), 0.1)
        self.steps += 1

    def run(self, until):
        while self.steps < until:
            self.step()
        return self

    def whole(self):
        """All tensors, not sharded, and copied."""
        from torch.distributed.tensor import DTensor

        return {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).clone()
            for name, value in self.state.tensors().items()
        }


def same(left, right):
    assert set(left) == set(right)
    return all(torch.equal(left[name], right[name]) for name in left)


def make(folder, told=None, settings=SETTINGS, **more):
    store = more.pop("store", None) or LocalCheckpointStore(folder)
    warn = (lambda _: None) if told is None else told.append
    return Checkpoints(store, "stage_1", Identity(settings, MAY_CHANGE), warn=warn, **more)


class FailingStore:
    """Calls `before(what, key)` ahead of each call, which may raise."""

    def __init__(self, store, before):
        self.store, self.before = store, before

    def __getattr__(self, name):
        def call(key, *arguments):
            self.before(name, key)
            return getattr(self.store, name)(key, *arguments)

        return call
