"""Reads what a rank needs of a checkpoint by ranges, checked, and hands it over once all ranks have theirs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from zoetrope.model.training.checkpoints.format import BLOCK_BYTES, DamagedCheckpointError, FileEntry, Stored
from zoetrope.model.training.checkpoints.store import CheckpointStore, UnreadableError

REQUEST_BYTES = 64 << 20
"""Most that one request asks for, unless one chunk is larger."""


@dataclass(frozen=True)
class _Wanted:
    """Where the rows lie, the shape of those rows, what of them is needed (offset, length of each dimension), and of
    whom.
    """

    stored: Stored
    shape: tuple[int, ...]
    narrowed: tuple[tuple[int, int], ...]
    target: Tensor
    about: TensorStorageMetadata


class StoreReader(StorageReader):
    """One load. The live tensors are untouched until `commit`.

    Args:
        store: where from.
        folder: key of the checkpoint.
        metadata: of the index.
        files: of the index.
    """

    def __init__(self, store: CheckpointStore, folder: str, metadata: Metadata, files: Mapping[str, FileEntry]) -> None:
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
        by_file: dict[str, list[_Wanted]] = {}
        for item in plan.items:
            wanted = self._wanted(item, planner)
            by_file.setdefault(wanted.stored.file, []).append(wanted)
        for name, of_file in by_file.items():
            of_file.sort(key=lambda each: each.stored.start)
            begin = 0
            while begin < len(of_file):
                end = _request_end(of_file, begin)
                self._read(self._files[name], of_file[begin:end])
                begin = end
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _wanted(self, item: ReadItem, planner: LoadPlanner) -> _Wanted:
        """Of a chunk the rows that are needed."""
        about = self._metadata.state_dict_metadata[item.storage_index.fqn]
        assert isinstance(about, TensorStorageMetadata)
        sizes, stored = _chunk_sizes(about, item.storage_index), self._stored[item.storage_index]
        narrowed = list(zip(item.storage_offsets, item.lengths, strict=True))
        shape = list(sizes)
        if shape and shape[0]:
            row = stored.length // shape[0]
            (first, rows), narrowed[0] = narrowed[0], (0, narrowed[0][1])
            stored = Stored(stored.file, stored.start + first * row, rows * row)
            shape[0] = rows
        return _Wanted(stored, tuple(shape), tuple(narrowed), planner.resolve_tensor(item).detach(), about)

    def _read(self, file: FileEntry, taken: list[_Wanted]) -> None:
        """Reads neighbours with one request."""
        first = taken[0].stored.start
        data, begin = self._checked(file, first, max(each.stored.start + each.stored.length for each in taken))
        for each in taken:
            value = torch.empty(each.shape, dtype=each.about.properties.dtype)
            if each.stored.length:
                at = each.stored.start - begin
                raw = torch.frombuffer(data, dtype=torch.uint8, offset=at, count=each.stored.length)
                value.reshape(-1).view(torch.uint8).copy_(raw)
            part = value
            for dimension, (offset, length) in enumerate(each.narrowed):
                part = part.narrow(dimension, offset, length)
            # a copy, so that the rest of the chunk does not stay in memory
            self._pending.append((each.target, part if part.shape == value.shape else part.clone()))

    def _checked(self, file: FileEntry, start: int, end: int) -> tuple[bytearray, int]:
        """Whole blocks that hold bytes [start, end) of a file, compared with their digests, and where they begin."""
        block = start // BLOCK_BYTES
        first, last = block * BLOCK_BYTES, min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, file.bytes)
        try:
            data = bytearray(self._store.read(f"{self._folder}/{file.name}", first, last - first))
        except UnreadableError as error:
            raise DamagedCheckpointError(f"{file.name} cannot be read: {error}") from error
        if len(data) != last - first:
            raise DamagedCheckpointError(f"{file.name} is cut off")
        view = memoryview(data)
        for number, at in enumerate(range(0, len(data), BLOCK_BYTES), block):
            if hashlib.sha256(view[at : at + BLOCK_BYTES]).hexdigest() != file.blocks[number]:
                raise DamagedCheckpointError(f"{file.name} does not match its digest")
        return data, first

    def commit(self) -> None:
        """Copies what was read into the live tensors."""
        with torch.no_grad():
            for target, value in self._pending:
                target.copy_(value)
        self._pending = []


def _chunk_sizes(about: TensorStorageMetadata, index: MetadataIndex) -> torch.Size:
    hint = index.index
    if hint is not None and hint < len(about.chunks) and about.chunks[hint].offsets == index.offset:
        return about.chunks[hint].sizes
    return next(chunk.sizes for chunk in about.chunks if chunk.offsets == index.offset)


def _request_end(wanted: list[_Wanted], begin: int) -> int:
    """Index behind what one request brings: it ends before a gap of a block, and after REQUEST_BYTES."""
    first = wanted[begin].stored.start
    until = first + wanted[begin].stored.length
    for number in range(begin + 1, len(wanted)):
        stored = wanted[number].stored
        if stored.start - until >= BLOCK_BYTES or stored.start + stored.length - first > REQUEST_BYTES:
            return number
        until = max(until, stored.start + stored.length)
    return len(wanted)
