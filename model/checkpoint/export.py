"""Sharded weights as safetensors files, tensor by tensor: no process ever holds the whole model."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor

from zoetrope.model.checkpoint.dtypes import DTYPES
from zoetrope.model.checkpoint.files import INDEX_SUFFIX

SUFFIX = ".safetensors"
_ORDER = {dtype: place for place, dtype in enumerate(DTYPES.values())}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def export_weights(
    weights: nn.Module | Mapping[str, Tensor],
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    max_bytes: int | None = None,
) -> Path:
    """Writes weights under the names of the plain model, which are those of the released files.

    All ranks call it; the first one writes. In memory is one whole tensor at a time. One file has the bytes that
    `save_weights` writes.

    Args:
        weights: a model (plain, DistributedDataParallel, FSDP2), or name -> tensor, such as averages.
        path: file to write, `*.safetensors`, on the first rank.
        dtype: of floating-point tensors in the file; None: as they are.
        max_bytes: of the tensors of one file, unless one tensor is larger; then there are files
            `NAME-00001-of-00002.safetensors` and `NAME.safetensors.index.json`, which is written last. None: one file.

    Returns:
        The file, or the index where there is one.

    Raises:
        ValueError: `path` has another suffix, or a dtype is none of safetensors.
        OSError: the first rank could not write; raised on all ranks, and nothing half-written has its name.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: weights are exported as *{SUFFIX}")
    given = get_model_state_dict(weights) if isinstance(weights, nn.Module) else weights
    tensors = cast(Mapping[str, Tensor], given)
    entries = sorted(
        (_entry(name, tensor, dtype) for name, tensor in tensors.items()),
        key=lambda entry: (-_ORDER[entry.dtype], entry.name),
    )
    groups = _groups(entries, max_bytes)
    split = max_bytes is not None and len(groups) > 1
    stem = path.name.removesuffix(SUFFIX)
    names = (
        [f"{stem}-{i:05d}-of-{len(groups):05d}{SUFFIX}" for i in range(1, len(groups) + 1)] if split else [path.name]
    )
    first = not dist.is_initialized() or dist.get_rank() == 0
    failure: OSError | None = None
    for name, group in zip(names, groups, strict=True):
        file = _File(path.with_name(name), group) if first and failure is None else None
        for entry in group:
            # gathered by all ranks also behind a failure: they would wait for the first one
            value = _whole(tensors[entry.name])
            if file is not None:
                file.write(value, entry)
        failure = failure or (file.close() if file is not None else None)
    if split:
        path = path.with_name(stem + INDEX_SUFFIX)
        if first and failure is None:
            failure = _write_index(path, names, groups)
    _raise_on_all(failure)
    return path


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def _entry(name: str, tensor: Tensor, dtype: torch.dtype | None) -> _Entry:
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if wanted not in _NAMES:
        raise ValueError(f"{name}: safetensors has no {wanted}; expected {', '.join(DTYPES)}")
    return _Entry(name, wanted, tuple(tensor.shape))


def _groups(entries: list[_Entry], max_bytes: int | None) -> list[list[_Entry]]:
    groups: list[list[_Entry]] = [[]]
    size = 0
    for entry in entries:
        if max_bytes is not None and groups[-1] and size + entry.bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry.bytes
    return groups


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _File:
    """One file while it is written, beside its place; the first error is kept and nothing is written behind it."""

    def __init__(self, path: Path, entries: list[_Entry]) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._failure: OSError | None = None
        header, offset = {}, 0
        for entry in entries:
            offsets = [offset, offset + entry.bytes]
            header[entry.name] = {"dtype": _NAMES[entry.dtype], "shape": entry.shape, "data_offsets": offsets}
            offset += entry.bytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        try:
            self._stream = self._part.open("wb")
            self._stream.write(struct.pack("<Q", len(text)) + text)
        except OSError as error:
            self._failure = error

    def write(self, value: Tensor, entry: _Entry) -> None:
        if self._failure is None:
            raw = value.detach().to("cpu", entry.dtype).contiguous().reshape(-1).view(torch.uint8)
            try:
                self._stream.write(raw.numpy().data)
            except OSError as error:
                self._failure = error

    def close(self) -> OSError | None:
        """Publishes the file, or says why not."""
        try:
            if self._failure is None:
                with self._stream:
                    self._stream.flush()
                    os.fsync(self._stream.fileno())
                self._part.replace(self._path)
        except OSError as error:
            self._failure = error
        if self._failure is not None:
            with suppress(OSError):  # the first error is the one to tell
                self._part.unlink(missing_ok=True)
        return self._failure


def _write_index(path: Path, names: list[str], groups: list[list[_Entry]]) -> OSError | None:
    weight_map = {entry.name: name for name, group in zip(names, groups, strict=True) for entry in group}
    size = sum(entry.bytes for group in groups for entry in group)
    part = path.with_name(f"{path.name}.part")
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=1, sort_keys=True)
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        return error
    return None


def _raise_on_all(failure: OSError | None) -> None:
    said: list[OSError | None] = [failure]
    if dist.is_initialized():
        dist.broadcast_object_list(said, src=0)
    if said[0] is not None:
        raise said[0]
