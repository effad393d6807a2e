"""Fills models from weight files, tensor by tensor, so that no more than one of them is in memory twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoetrope.model.checkpoint.files import WeightFiles

if TYPE_CHECKING:
    import torch
    from torch import nn


class WeightSource(Protocol):
    """Tensors by name: files, or files seen through a converter."""

    path: Path

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        ...

    def read(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU."""
        ...


def load_weights(
    model: nn.Module,
    source: Path | WeightSource,
    *,
    may_miss: Iterable[str] = (),
    device: torch.device | str = "cpu",
) -> None:
    """Fills a model from safetensors files; in memory are the model and one tensor of the file.

    Args:
        model: its dtype stays. A model on the meta device is first made on `device`. Parameters of a sharded model
            (DTensor) take their own part of each tensor, without communication.
        source: path (see `WeightFiles`), or a converter's view of one.
        may_miss: prefixes of names that the file may lack, e.g. `cond_in.` when a text-to-video model becomes an
            image-to-video model. They keep their values; those of a model on the meta device become zeros.
        device: for a model on the meta device.

    Raises:
        ValueError: not safetensors, or names or shapes that do not fit, with the first ones.
    """
    import torch

    source = WeightFiles(source) if isinstance(source, Path) else source
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _require_fit(source, shapes, tuple(may_miss))
    fresh = any(parameter.is_meta for parameter in model.parameters())
    if fresh:
        model.to_empty(device=device)
    given = source.shapes()
    with torch.no_grad():
        for name, target in model.state_dict().items():
            if name in given:
                copy_into(target, source.read(name))
            elif fresh:
                target.zero_()


def _require_fit(source: WeightSource, wanted: Mapping[str, tuple[int, ...]], may_miss: tuple[str, ...]) -> None:
    given = source.shapes()
    missing = [name for name in wanted if name not in given and not name.startswith(may_miss)]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} is {list(given[name])}, the model has {list(wanted[name])}"
        for name in wanted
        if name in given and given[name] != wanted[name]
    ]
    problems = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({unexpected[0]}, ...)"] if unexpected else []
    problems += [f"{len(shapes)} of another shape ({shapes[0]}, ...)"] if shapes else []
    if problems:
        raise ValueError(f"{source.path} does not fit the model: weights {'; '.join(problems)}")


def copy_into(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copies a whole tensor into a tensor of the same shape, or, where that is sharded, its part (DTensor)."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(target, DTensor):
        mesh = target.device_mesh
        # every rank has read the whole tensor and keeps its part; nothing is sent
        part = distribute_tensor(value.to(target.device), mesh, target.placements, src_data_rank=None)
        target.to_local().copy_(part.to_local())
    else:
        target.copy_(value)
