"""What a checkpoint holds: the tensors of live objects, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict


@dataclass(frozen=True)
class LiveState:
    """What is trained; a restored checkpoint fills its tensors in place.

    Attributes:
        model: plain, DistributedDataParallel or FSDP2; names are those of the plain model.
        optimizer: of the model's parameters.
        ema: averaged weights as a module (sharded as it is) or name -> tensor; None for none.
        more: part -> name -> tensor, such as a discriminator's; DTensors, or the same on all ranks.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: nn.Module | Mapping[str, Tensor] | None = None
    more: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """`PART/NAME` -> the live tensor. An optimizer that made no step yet gets its state by one of rate zero."""
        # what is no tensor there (rates, betas) follows from configuration and step
        options = StateDictOptions(flatten_optimizer_state_dict=True)
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=options)
        parts: dict[str, Mapping[str, Any]] = {
            "model": get_model_state_dict(self.model),
            "optimizer": {name: value for name, value in optimizer.items() if name.startswith("state.")},
            **self.more,
        }
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict() if isinstance(self.ema, nn.Module) else self.ema
        return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}


@dataclass(frozen=True)
class CheckpointState:
    """Where a training stands, beside its tensors. All values are JSON, the same on all ranks but `window`.

    Attributes:
        step: finished steps.
        order: position in the sample order.
        guards: what was skipped, repeated and quarantined.
        curve: metric -> [[step, value], ...].
        final_loss: mean loss over the last log interval.
        window: what this rank has summed up since the last metrics.
        windows: of a restored checkpoint: the windows of all ranks that saved it, by rank.
        validation: validation loss, by which the best are kept; None where it was not measured.
    """

    step: int
    order: Any = None
    guards: Any = None
    curve: Mapping[str, Any] = field(default_factory=dict)
    final_loss: float = float("nan")
    window: Any = None
    windows: tuple[Any, ...] = ()
    validation: float | None = None

    def notes(self) -> dict[str, Any]:
        """What is the same on all ranks."""
        names = ("step", "order", "guards", "curve", "final_loss", "validation")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, notes: Mapping[str, Any], windows: list[Any], rank: int) -> CheckpointState:
        """The inverse; `window` is this rank's where as many ranks saved it as take part now."""
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        own = windows[rank] if len(windows) == world else None
        return cls(**notes, window=own, windows=tuple(windows))
