"""Resumable state of a training loop: safetensors and JSON, published as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoetrope.model.checkpoint import read_weights, save_weights

KEPT = 2  # states: if the newest cannot be read, the one before it is taken

Tensors = dict[str, torch.Tensor]


def save_state(folder: Path, step: int, digest: str, parts: Mapping[str, Tensors], notes: Mapping[str, Any]) -> None:
    """Writes the state after `step` steps and removes old ones.

    Args:
        folder: of all states of this loop.
        step: finished steps.
        digest: of everything that the result depends on; a state of another digest is never resumed.
        parts: name -> tensors, e.g. model, average, optimizer.
        notes: JSON values to remember.
    """
    part = folder / f"part-{step}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, tensors in parts.items():
        save_weights(tensors, part / f"{name}.safetensors")
    # written last: a state without it is not complete
    (part / "state.json").write_text(json.dumps({"step": step, "digest": digest, "notes": dict(notes)}))
    target = folder / f"step-{step:09d}"
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_state(folder: Path, digest: str) -> tuple[int, dict[str, Tensors], dict[str, Any]] | None:
    """The newest readable state of this digest: (finished steps, parts, notes); None where there is none."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            found = json.loads((path / "state.json").read_text())
            if found["digest"] != digest:
                continue
            parts = {file.stem: read_weights(file) for file in sorted(path.glob("*.safetensors"))}
        except (OSError, ValueError, KeyError):
            continue  # damaged: the one before it holds
        return int(found["step"]), parts, found["notes"]
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state as flat tensors, `INDEX.NAME`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
