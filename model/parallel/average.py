"""The exponential average of sharded weights: each process averages its own shards, nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

UPDATES = "n_averaged"  # name of torch.optim.swa_utils.AveragedModel


class ShardedAverage:
    """Averaged weights, as `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn` makes them.

    Attributes:
        weights: name -> average, sharded like the parameter of that name, float32.
        updates: how many were taken.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts at the weights that the model has now.

        Raises:
            ValueError: `decay` is not between 0 and 1.
        """
        if not 0 < decay < 1:
            raise ValueError(f"the decay of an average has to be between 0 and 1, not {decay}")
        self.decay, self.updates = decay, 0
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes the weights after a step; the first ones are taken as they are."""
        given = dict(model.named_parameters())
        averages = [_local(average) for average in self.weights.values()]
        current = [_local(given[name].detach()) for name in self.weights]
        torch._foreach_lerp_(averages, current, 1.0 if self.updates == 0 else 1 - self.decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Averages, sharded, and the number of updates: what a checkpoint keeps."""
        return {**self.weights, UPDATES: torch.tensor(self.updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            ValueError: other names.
        """
        if set(state) != {*self.weights, UPDATES}:
            raise ValueError("the saved average is of another model")
        for name, average in self.weights.items():
            _local(average).copy_(_local(state[name]))
        self.updates = int(state[UPDATES])


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
