"""Resumable state of a training loop: safetensors and JSON, published as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from zoetrope.model.checkpoint import read_weights, save_weights

warn_in_log: Callable[[str], None] = logging.getLogger(__name__).warning

MARKER = "state.json"
KEPT = 2  # states: if the newest is damaged, the one before it is taken

Tensors = dict[str, torch.Tensor]


class DamagedStateError(ValueError):
    """A state is not what it was when it was saved."""


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
    files = {path.name: _digest_file(path) for path in sorted(part.iterdir())}
    state = {"step": step, "digest": digest, "notes": dict(notes), "files": files}
    # written last: a state without it is not complete, and one that does not fit it is not taken
    (part / MARKER).write_text(json.dumps({"state": state, "sha256": _digest(state)}))
    target = folder / f"step-{step:09d}"
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_state(
    folder: Path, digest: str, warn: Callable[[str], None] = warn_in_log
) -> tuple[int, dict[str, Tensors], dict[str, Any]] | None:
    """The newest sound state of this digest: (finished steps, parts, notes); None where there is none.

    Args:
        folder: of all states of the loop.
        digest: see `save_state`.
        warn: is told of each state that is passed over because it is damaged.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = _sound_state(path)
            if state["digest"] != digest:
                continue
            parts = {Path(name).stem: read_weights(path / name) for name in state["files"]}
        except (OSError, ValueError) as error:
            warn(f"training state {path.name} is damaged ({error}); the one before it is taken")
            continue
        return int(state["step"]), parts, state["notes"]
    return None


def _sound_state(path: Path) -> dict[str, Any]:
    """What the marker says, after everything was compared with it."""
    try:
        marker = json.loads((path / MARKER).read_text())
        state: dict[str, Any] = marker["state"]
        if marker["sha256"] != _digest(state):
            raise DamagedStateError(f"{MARKER} does not match its digest")
    except (KeyError, TypeError) as error:
        raise DamagedStateError(f"{MARKER} has no digest") from error
    for name, digest in state["files"].items():
        if _digest_file(path / name) != digest:
            raise DamagedStateError(f"{name} does not match its digest")
    return state


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
