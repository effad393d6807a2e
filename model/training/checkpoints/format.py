"""How a checkpoint lies in the store. Nothing in it is a pickle.

KEY/step-000000120-CONFIG-ATTEMPT/rank-00000-000.bin   tensors' bytes one behind the other, of at most PART_BYTES
                                 /index.json.gz        where each tensor's chunks lie, digests of each file's blocks
                                 /complete.json        the marker, written last: files with sizes and digests

CONFIG is the beginning of the digest of the configuration, ATTEMPT random: no attempt writes over another one's files.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

FORMAT = 1
MARKER, INDEX = "complete.json", "index.json.gz"
PART_BYTES = 64 << 20
"""Of a file, unless one chunk is larger: what is copied beside the staged tensors, and one request to S3."""
BLOCK_BYTES = 4 << 20
"""Of a digest: a range is read in whole blocks and checked, so nothing is used that was not compared."""
_PLACE = re.compile(r"step-(?P<step>\d{9})-(?P<config>[0-9a-f]{12})-(?P<attempt>[0-9a-f]{8})")


class DamagedCheckpointError(ValueError):
    """A file of a checkpoint is missing, cut off or changed; the message names it."""


@dataclass(frozen=True)
class Place:
    """The folder of one checkpoint; sorted by step."""

    step: int
    config: str
    attempt: str

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"step-{self.step:09d}-{self.config}-{self.attempt}"

    @staticmethod
    def of(key: str) -> Place | None:
        """The checkpoint that an object belongs to; None for other objects."""
        match = _PLACE.fullmatch(key.rsplit("/", 2)[-2]) if key.count("/") else None
        return None if match is None else Place(int(match["step"]), match["config"], match["attempt"])


@dataclass(frozen=True)
class Stored:
    """Where the bytes of a chunk lie: `length` bytes of `file` from `start`."""

    file: str
    start: int
    length: int


@dataclass(frozen=True)
class FileEntry:
    """A file: its length in bytes, and the SHA-256 of each of its blocks."""

    name: str
    bytes: int
    blocks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the blocks, one behind the other as hexadecimal text."""
        return hashlib.sha256("".join(self.blocks).encode()).hexdigest()


def file_entry(name: str, data: bytes | memoryview) -> FileEntry:
    """Describes a file."""
    view = memoryview(data)
    starts = range(0, len(view), BLOCK_BYTES)
    blocks = tuple(hashlib.sha256(view[start : start + BLOCK_BYTES]).hexdigest() for start in starts)
    return FileEntry(name, len(view), blocks)


def encode_index(metadata: Metadata, stored: Mapping[MetadataIndex, Stored], files: Iterable[FileEntry]) -> bytes:
    """The index: tensors, their chunks and the files' blocks, as compressed JSON."""
    tensors: dict[str, Any] = {}
    for name, about in metadata.state_dict_metadata.items():
        if not isinstance(about, TensorStorageMetadata):
            raise TypeError(f"{name} is no tensor; a checkpoint's other values belong into its notes")
        chunks = []
        for chunk in about.chunks:
            where = stored[MetadataIndex(name, chunk.offsets)]
            chunks.append([list(chunk.offsets), list(chunk.sizes), where.file, where.start, where.length])
        dtype = str(about.properties.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": dtype, "shape": list(about.size), "chunks": chunks}
    listed = {entry.name: {"bytes": entry.bytes, "blocks": entry.blocks} for entry in files}
    text = json.dumps({"tensors": tensors, "files": listed}, sort_keys=True)
    return gzip.compress(text.encode(), compresslevel=1, mtime=0)


def decode_index(data: bytes) -> tuple[Metadata, dict[str, FileEntry]]:
    """The inverse; the metadata's `storage_data` says where each chunk lies."""
    index = json.loads(gzip.decompress(data))
    tensors: dict[str, Any] = {}
    stored: dict[MetadataIndex, Stored] = {}
    for name, about in index["tensors"].items():
        chunks = []
        for offsets, sizes, file, start, length in about["chunks"]:
            chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
            stored[MetadataIndex(name, offsets)] = Stored(file, start, length)
        properties = TensorProperties(dtype=getattr(torch, about["dtype"]))
        tensors[name] = TensorStorageMetadata(properties, torch.Size(about["shape"]), chunks)
    files = {name: FileEntry(name, about["bytes"], tuple(about["blocks"])) for name, about in index["files"].items()}
    return Metadata(tensors, storage_data=stored), files


def encode_marker(body: Mapping[str, Any]) -> bytes:
    """The marker: what it says and the digest of that."""
    return json.dumps({"sha256": _digest(body), "checkpoint": body}).encode()


def decode_marker(data: bytes) -> dict[str, Any]:
    """What a marker says.

    Raises:
        DamagedCheckpointError: it does not match its digest, or is of another format.
    """
    try:
        marker = json.loads(data)
        body: dict[str, Any] = marker["checkpoint"]
        sound = marker["sha256"] == _digest(body)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{MARKER} is not readable") from error
    if not sound:
        raise DamagedCheckpointError(f"{MARKER} does not match its digest")
    if body["format"] != FORMAT:
        raise DamagedCheckpointError(f"{MARKER} is of format {body['format']}, this code reads {FORMAT}")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
