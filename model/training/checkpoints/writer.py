"""Writes the chunks that torch.distributed.checkpoint plans for each rank through the store port."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
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
        place: folder, chosen by the coordinator; that of the other ranks is not used.
        body: JSON text of what the marker says beside files and `owns`.
        own: JSON of this rank; it is gathered with the plans.
    """

    def __init__(
        self,
        store: CheckpointStore,
        key: str,
        place: Place,
        body: str,
        own: Any,
    ) -> None:
        super().__init__()
        self._store, self._key, self._place, self._body, self._own = store, key, place, body, own
        self._rank = 0
        self._owns: list[Any] = []
        self._buffer = torch.empty(0, dtype=torch.uint8)  # one for all files: new memory costs more than the copy

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
        """Sends this rank's notes along."""
        return replace(plan, storage_data=self._own)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Takes the ranks' notes and names the place for all."""
        self._owns = [plan.storage_data for plan in plans]
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
        size = sum(_bytes(item) for item in items)
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size, dtype=torch.uint8)
        data = self._buffer[:size]
        stored: list[tuple[MetadataIndex, Stored]] = []
        start = 0
        for item in items:
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor)
            length = _bytes(item)
            if length:
                # reshaped first: a view as bytes needs a dimension
                data[start : start + length].copy_(tensor.detach().contiguous().reshape(-1).view(torch.uint8))
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
        written = [(result.index, result.storage_data) for of_rank in results for result in of_rank]
        files = [about.file for _, about in written if about.file is not None]
        index = encode_index(metadata, {where: about.stored for where, about in written}, files)
        entries = [*files, file_entry(INDEX, index)]
        body = {
            "format": FORMAT,
            **json.loads(self._body),
            "owns": self._owns,
            "files": {entry.name: {"bytes": entry.bytes, "digest": entry.digest} for entry in entries},
        }
        folder = f"{self._key}/{self._place.name}"
        self._store.put(f"{folder}/{INDEX}", index)
        self._store.put(f"{folder}/{MARKER}", encode_marker(body))


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
