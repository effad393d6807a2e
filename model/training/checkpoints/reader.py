"""Reads what a rank needs of a checkpoint by ranges, checked, and hands it over once all ranks have theirs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import LoadPlan, LoadPlanner, StorageReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import ReadItem
from torch.futures import Future

from zoetrope.model.training.checkpoints.format import BLOCK_BYTES, DamagedCheckpointError, FileEntry, Stored
from zoetrope.model.training.checkpoints.store import CheckpointStore

REQUEST_BYTES = 64 << 20
"""Most that one request asks for, unless one chunk is larger."""


class StoreReader(StorageReader):
    """One load. The live tensors are untouched until `commit`.

    Args:
        store: where from.
        folder: key of the checkpoint.
        metadata: of the index.
        files: of the index.
    """

    def __init__(
        self, store: CheckpointStore, folder: str, metadata: Metadata, files: Mapping[str, FileEntry]
    ) -> None:
        super().__init__()
        self._store, self._folder, self._metadata, self._files = store, folder, metadata, files
        self._stored: dict[MetadataIndex, Stored] = metadata.storage_data
        self._pending: list[tuple[Tensor, Tensor]] = []

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do: a reader takes one checkpoint."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """False: never chosen by a path."""
        return False

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the index says."""
        return self._metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads and checks everything of the plan into memory of its own."""
        by_file: dict[str, list[tuple[Stored, ReadItem]]] = {}
        for item in plan.items:
            stored = self._stored[item.storage_index]
            by_file.setdefault(stored.file, []).append((stored, item))
        for name, wanted in by_file.items():
            wanted.sort(key=lambda each: each[0].start)
            while wanted:
                taken = [each for each in wanted if each[0].start < _request_end(wanted)]
                wanted = wanted[len(taken) :]
                self._read(name, taken, planner)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _read(self, name: str, wanted: list[tuple[Stored, ReadItem]], planner: LoadPlanner) -> None:
        first = wanted[0][0].start
        data = self._checked(self._files[name], first, max(where.start + where.length for where, _ in wanted))
        for where, item in wanted:
            about = self._metadata.state_dict_metadata[item.storage_index.fqn]
            dtype, sizes = about.properties.dtype, self._sizes(item.storage_index)  # type: ignore[union-attr]
            chunk = torch.empty(sizes, dtype=dtype)
            if where.length:
                raw = data[where.start - first : where.start - first + where.length]
                chunk.reshape(-1).view(torch.uint8).copy_(torch.frombuffer(raw, dtype=torch.uint8))
            for dimension, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                chunk = chunk.narrow(dimension, offset, length)
            target = planner.resolve_tensor(item).detach()
            if target.dtype != dtype:
                raise ValueError(f"{item.storage_index.fqn} is saved as {dtype}, this training has {target.dtype}")
            self._pending.append((target, chunk))

    def _sizes(self, index: MetadataIndex) -> torch.Size:
        chunks = self._metadata.state_dict_metadata[index.fqn].chunks  # type: ignore[union-attr]
        if index.index is not None and chunks[index.index].offsets == index.offset:
            return chunks[index.index].sizes
        return next(chunk.sizes for chunk in chunks if chunk.offsets == index.offset)

    def _checked(self, file: FileEntry, start: int, end: int) -> bytearray:
        """Bytes [start, end) of a file, after the blocks that hold them were compared with their digests."""
        block = start // BLOCK_BYTES
        first, last = block * BLOCK_BYTES, min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, file.bytes)
        data = bytearray(self._store.read(f"{self._folder}/{file.name}", first, last - first))
        if len(data) != last - first:
            raise DamagedCheckpointError(f"{file.name} is cut off")
        view = memoryview(data)
        for number, at in enumerate(range(0, len(data), BLOCK_BYTES), block):
            if hashlib.sha256(view[at : at + BLOCK_BYTES]).hexdigest() != file.blocks[number]:
                raise DamagedCheckpointError(f"{file.name} does not match its digest")
        return data[start - first : end - first]

    def commit(self) -> None:
        """Copies what was read into the live tensors."""
        with torch.no_grad():
            for target, value in self._pending:
                target.copy_(value)
        self._pending = []


def _request_end(wanted: list[tuple[Stored, ReadItem]]) -> int:
    """Where the next request ends: before a gap of a block, and after REQUEST_BYTES."""
    first = wanted[0][0].start
    end = first + max(wanted[0][0].length, 1)
    for where, _ in wanted[1:]:
        if where.start - end >= BLOCK_BYTES or where.start + where.length - first > REQUEST_BYTES:
            break
        end = max(end, where.start + max(where.length, 1))
    return end
