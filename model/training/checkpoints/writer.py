"""Writes the chunks that torch.distributed.checkpoint plans for each rank through the store port."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import SavePlan, SavePlanner, StorageWriter
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from zoetrope.model.training.checkpoints.format import (
    FORMAT,
    INDEX,
    MARKER,
    PART_BYTES,
    FileEntry,
    Place,
    Stored,
    encode_index,
    encode_marker,
    file_entry,
)
from zoetrope.model.training.checkpoints.store import CheckpointStore


@dataclass(frozen=True)
class _Written:
    """What a rank tells the coordinator about one chunk; the first chunk of a file brings the file."""

    stored: Stored
    file: FileEntry | None


class StoreWriter(StorageWriter):
    """One save: each rank puts its own files, the coordinator index and marker.

    Args:
        store: where to.
        key: of all checkpoints of this training.
        step: finished steps.
        config: beginning of the digest of the configuration.
        body: what the marker says beside files and windows.
        window: of this rank; they are gathered with the plans.
        done: called on the coordinator after the marker was written.
    """

    def __init__(
        self,
        store: CheckpointStore,
        key: str,
        step: int,
        config: str,
        body: Mapping[str, Any],
        window: Any,
        done: Callable[[Place], None],
    ) -> None:
        super().__init__()
        self._store, self._key, self._step, self._config = store, key, step, config
        self._body, self._window, self._done = body, window, done
        self._rank = 0
        self._windows: list[Any] = []
        self._place: Place | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do: a writer makes one checkpoint."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """False: never chosen by a path."""
        return False

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Learns the rank, which names the files."""
        self._rank = int(kwargs.get("rank", 0))

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Sends this rank's window along."""
        return replace(plan, storage_data=self._window)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Takes the windows and names the place for all."""
        self._windows = [plan.storage_data for plan in plans]
        self._place = Place(self._step, self._config, secrets.token_hex(4))
        return [replace(plan, storage_data=self._place) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Puts this rank's files, one after the other."""
        place: Place = plan.storage_data
        results: list[WriteResult] = []
        for number, items in enumerate(_parts(plan.items)):
            name = f"rank-{self._rank:05d}-{number:03d}.bin"
            results += self._write_file(f"{self._key}/{place.name}/{name}", name, items, planner)
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def _write_file(self, key: str, name: str, items: list[WriteItem], planner: SavePlanner) -> list[WriteResult]:
        # filled by tensor copies, which let the training's thread run, as joining bytes would not
        data = torch.empty(sum(_bytes(item) for item in items), dtype=torch.uint8)
        stored: list[tuple[MetadataIndex, Stored]] = []
        start = 0
        for item in items:
            tensor: Tensor = planner.resolve_data(item).detach()
            length = _bytes(item)
            if length:
                # reshaped first: a view as bytes needs a dimension
                data[start : start + length].copy_(tensor.contiguous().reshape(-1).view(torch.uint8))
            stored.append((item.index, Stored(name, start, length)))
            start += length
        view = data.numpy().data
        entry = file_entry(name, view)
        self._store.put(key, view)
        return [
            WriteResult(index, where.length, _Written(where, None if number else entry))
            for number, (index, where) in enumerate(stored)
        ]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes index and marker."""
        assert self._place is not None
        written = [(result.index, result.storage_data) for of_rank in results for result in of_rank]
        files = [about.file for _, about in written if about.file is not None]
        index = encode_index(metadata, {where: about.stored for where, about in written}, files)
        entries = [*files, file_entry(INDEX, index)]
        body = {
            "format": FORMAT,
            **self._body,
            "windows": self._windows,
            "files": {entry.name: {"bytes": entry.bytes, "digest": entry.digest} for entry in entries},
        }
        folder = f"{self._key}/{self._place.name}"
        self._store.put(f"{folder}/{INDEX}", index)
        self._store.put(f"{folder}/{MARKER}", encode_marker(body))
        self._done(self._place)


def _bytes(item: WriteItem) -> int:
    if item.tensor_data is None:
        raise TypeError(f"{item.index.fqn} is no tensor; a checkpoint's other values belong into its notes")
    return item.tensor_data.chunk.sizes.numel() * item.tensor_data.properties.dtype.itemsize


def _parts(items: list[WriteItem]) -> list[list[WriteItem]]:
    parts: list[list[WriteItem]] = []
    size = PART_BYTES
    for item in items:
        if size + _bytes(item) > PART_BYTES or not parts:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += _bytes(item)
    return parts
