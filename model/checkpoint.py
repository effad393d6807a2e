"""Weights on disk: safetensors alone, strict, with messages that say what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import nn

Config = TypeVar("Config")


def save_weights(tensors: nn.Module | Mapping[str, torch.Tensor], path: Path) -> Path:
    """Writes weights as safetensors; the bytes depend on names and values alone.

    Args:
        tensors: a module, or its state dict.
        path: file to write, `*.safetensors`.
    """
    from safetensors.torch import save_file
    from torch import nn

    state = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
    save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, str(path))
    return path


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file.

    Raises:
        ValueError: it is not one; pickled files (.pt, .pth, .ckpt, .bin) are refused because reading one runs code.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as stream:
        begin = stream.read(9)
    # a header length may begin with any byte, so what tells safetensors apart is the JSON that follows it
    if begin[8:] != b"{" and (begin[:2] == b"PK" or begin[:1] == b"\x80"):
        raise ValueError(f"{path} is a pickled checkpoint, which could run code when read; give a .safetensors file")
    try:
        state: dict[str, torch.Tensor] = load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from error
    return state


def load_weights(model: nn.Module, path: Path, *, may_miss: Iterable[str] = ()) -> None:
    """Fills a model from a safetensors file.

    Args:
        model: the model; its dtype and device stay.
        path: safetensors file.
        may_miss: prefixes of names that the file may lack (they keep their values), e.g. `cond_in.` when a
            text-to-video model becomes an image-to-video model.

    Raises:
        ValueError: names or shapes that do not fit, with the first ones.
    """
    state, wanted = read_weights(path), model.state_dict()
    missing = [name for name in wanted if name not in state and not name.startswith(tuple(may_miss))]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {list(state[name].shape)}, the model has {list(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({unexpected[0]}, ...)"] if unexpected else []
    problems += [f"{len(shapes)} of another shape ({shapes[0]}, ...)"] if shapes else []
    if problems:
        raise ValueError(f"{path} does not fit the model: weights {'; '.join(problems)}")
    model.load_state_dict(state, strict=False)


def make_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Builds a config dataclass from a manifest's JSON; lists become tuples.

    Raises:
        ValueError: unknown fields, with the nearest valid one.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"{kind.__name__} has no field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
