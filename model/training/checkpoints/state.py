"""What a checkpoint holds: the tensors of live objects, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_model_state_dict

_WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module")
"""Of DistributedDataParallel, torch.compile and activation checkpointing, in names of parameters."""


class UnfitCheckpointError(ValueError):
    """A sound checkpoint of the same configuration holds other tensors than this training."""


@dataclass
class TrainingState:
    """What is trained; loading fills tensors in place and replaces `notes`, `own` and `owns`.

    Attributes:
        model: plain, DistributedDataParallel or FSDP2; names in the checkpoint are those of the plain model.
        optimizer: of the model's parameters. Its tensors are kept; what is a number in its groups follows from
            configuration and step.
        ema: averaged weights, as a module or as name -> tensor (sharded as it is); None for none.
        more: part -> name -> tensor, such as a discriminator's; DTensors, or the same on all ranks. Part names are
            not `model`, `optimizer` or `ema`.
        notes: JSON, the same on all ranks (that of the first is kept): curve, position in the sample order, state of
            the guards, ...
        own: JSON of this rank alone, such as sums since the last metrics; after a load None where another number of
            ranks saved it.
        owns: after a load: `own` of all ranks that saved it, by rank.
        validation_loss: by which the best are kept; None where it was not measured.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    ema: nn.Module | Mapping[str, Tensor] | None = None
    more: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    own: Any = None
    owns: tuple[Any, ...] = ()
    validation_loss: float | None = None

    def tensors(self) -> dict[str, Tensor]:
        """`PART/NAME` -> live tensor; a DTensor's local part is this rank's."""
        return self._without_optimizer() | {
            _optimizer_name(name, kind): value
            for name, parameter in self._trained().items()
            for kind, value in self._optimizer_state(parameter).items()
        }

    def targets(self, saved: Metadata) -> LoadTargets:
        """What a checkpoint is read into.

        Raises:
            UnfitCheckpointError: it holds other names, shapes or dtypes.
        """
        tensors = self._without_optimizer()
        about = saved.state_dict_metadata
        optimizer: dict[Tensor, dict[str, Tensor]] = {}
        trained, on_device = self._trained(), self._steps_on_device()
        for key, there in about.items():
            part, _, rest = key.partition("/")
            name, _, kind = rest.rpartition("/")
            if part == "optimizer" and name in trained and isinstance(there, TensorStorageMetadata):
                parameter = trained[name]
                made = _optimizer_tensor(parameter, kind, there, parameter in on_device)
                optimizer.setdefault(parameter, {})[kind] = tensors[key] = made
        for name in sorted({*tensors, *about}):
            if name not in about or name not in tensors:
                place = "this training" if name in about else "the checkpoint"
                raise UnfitCheckpointError(f"{name} is not in {place}")
            there = about[name]
            if not isinstance(there, TensorStorageMetadata):
                raise UnfitCheckpointError(f"{name} is saved as {type(there).__name__}, not as a tensor")
            wanted = (tuple(tensors[name].shape), tensors[name].dtype)
            given = (tuple(there.size), there.properties.dtype)
            if given != wanted:
                raise UnfitCheckpointError(f"{name} is saved as {_said(*given)}, this training has {_said(*wanted)}")
        return LoadTargets(tensors, optimizer)

    def take(self, targets: LoadTargets, notes: Mapping[str, Any], owns: list[Any], rank: int, world: int) -> None:
        """Takes over what was read; the model's tensors were filled in place already."""
        if self.optimizer is not None:
            self.optimizer.state.clear()
            self.optimizer.state.update(targets.optimizer)
        self.notes, self.owns = notes, tuple(owns)
        self.own = owns[rank] if len(owns) == world else None

    def _without_optimizer(self) -> dict[str, Tensor]:
        parts: dict[str, Mapping[str, Any]] = {"model": get_model_state_dict(self.model)}
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict() if isinstance(self.ema, nn.Module) else self.ema
        for part, values in self.more.items():
            if part in ("model", "optimizer", "ema") or "/" in part:
                raise ValueError(f"a further part of a checkpoint cannot have the name {part!r}")
            parts[part] = values
        return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}

    def _trained(self) -> dict[str, Tensor]:
        """Plain name -> parameter of the optimizer."""
        if self.optimizer is None:
            return {}
        names: dict[Tensor, str] = {parameter: _plain(name) for name, parameter in self.model.named_parameters()}
        given = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if any(parameter not in names for parameter in given):
            raise ValueError("the optimizer has parameters that the model has not; give them as `more`")
        trained = {names[parameter]: parameter for parameter in given}
        if len(trained) < len(given):
            raise ValueError("parameters of the model have the same name once wrappers are left out")
        return trained

    def _optimizer_state(self, parameter: Tensor) -> dict[str, Tensor]:
        assert self.optimizer is not None
        state = self.optimizer.state.get(parameter, {})
        return {kind: value for kind, value in state.items() if isinstance(value, Tensor)}

    def _steps_on_device(self) -> set[Tensor]:
        """Parameters whose steps the optimizer counts beside them, and not on the CPU (as its own loading decides)."""
        groups = () if self.optimizer is None else self.optimizer.param_groups
        return {each for group in groups if group.get("fused") or group.get("capturable") for each in group["params"]}


@dataclass(frozen=True)
class LoadTargets:
    """Tensors to read into: those of the live objects, and new ones for the optimizer's state.

    Attributes:
        tensors: `PART/NAME` -> tensor.
        optimizer: parameter -> kind -> tensor, those of them that are the optimizer's.
    """

    tensors: dict[str, Tensor]
    optimizer: dict[Tensor, dict[str, Tensor]]


def _optimizer_name(name: str, kind: str) -> str:
    # behind a slash: names of parameters have none
    return f"optimizer/{name}/{kind}"


def _optimizer_tensor(parameter: Tensor, kind: str, saved: TensorStorageMetadata, step_on_device: bool) -> Tensor:
    """A new tensor for the optimizer's state: sharded as the parameter where it has its shape."""
    dtype = saved.properties.dtype
    if kind == "step":
        return torch.empty(saved.size, dtype=dtype, device=parameter.device if step_on_device else "cpu")
    if saved.size == parameter.shape:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    return torch.empty(saved.size, dtype=dtype, device=parameter.device)


def _plain(name: str) -> str:
    return ".".join(piece for piece in name.split(".") if piece not in _WRAPPERS)


def _said(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{list(shape)} {str(dtype).removeprefix('torch.')}"
