"""Shards: large immutable safetensors files, hashed while they are written.

The format is safetensors' own (8 bytes header length, JSON header, tensor bytes). It is written here because
the library can neither keep an order of tensors nor hash what it writes, and reading everything a second time
to hash it is what makes versioning large files slow.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ALIGNMENT = 8  # safetensors pads its header with spaces to a multiple of 8 bytes
CHECKSUM = "blake2b-64"
"""Name of the checksum of a tensor, see `checksum`; a dataset manifest says it with the key `checksum`."""
CHECKSUM_COLUMN = "checksum_"
"""Prefix of the index's columns: `checksum_latent` holds the checksum of `CLIP/BUCKET/latent`, and so on."""
DTYPES = {"F32": 4, "F16": 2, "BF16": 2}  # bytes per element of the dtypes that a shard may hold


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it lies in a file, cheap to send between processes.

    Attributes:
        dtype: safetensors name of the dtype: `F32`, `F16` or `BF16`.
        shape: lengths of the dimensions.
        data: elements in C order, little endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def checksum(dtype: str, shape: Sequence[int], data: bytes | memoryview) -> int:
    """The 64-bit checksum of a tensor: BLAKE2b with a digest of 8 bytes, read as a big-endian signed integer.

    Covered are `DTYPE:LENGTH,LENGTH,...:` in ASCII and then the elements, so that a changed header of a file is
    found as well.

    Args:
        dtype: safetensors name of the dtype.
        shape: lengths of the dimensions.
        data: elements in C order, little endian.
    """
    digest = hashlib.blake2b(f"{dtype}:{','.join(map(str, shape))}:".encode(), digest_size=8)
    digest.update(data)
    return int.from_bytes(digest.digest(), "big", signed=True)


@dataclass(frozen=True)
class Shard:
    """A finished shard file.

    Attributes:
        path: the local file.
        name: place in the dataset, e.g. `shards/00000.safetensors`.
        md5: MD5 of the file, which is its address in a DVC remote.
        sha256: SHA-256 of the file.
        bytes: length of the file.
        samples: number of clips in it.
    """

    path: Path
    name: str
    md5: str
    sha256: str
    bytes: int
    samples: int


def raw_tensor(tensor: torch.Tensor) -> RawTensor:
    """The bytes of a float32, float16 or bfloat16 tensor of any device and stride."""
    import torch

    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    if tensor.dtype not in names:
        raise ValueError(f"a shard holds float32, float16 or bfloat16, not {tensor.dtype}")
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return RawTensor(names[tensor.dtype], tuple(tensor.shape), flat.numpy().tobytes())


class ShardWriter:
    """Writes clips into numbered shards of limited size; the bytes depend on what is added alone.

    All tensors of one clip lie in one shard and next to each other, so that few range reads bring a sample
    and a takedown rewrites one file.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """`limit_bytes`: a shard is closed before its tensors would exceed this (one clip may)."""
        if limit_bytes <= 0:
            raise ValueError(f"the size limit of a shard must be positive, not {limit_bytes}")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._limit = limit_bytes
        self._tensors: dict[str, RawTensor] = {}
        self._size = 0
        self._samples = 0
        self._number = 0

    def add(self, tensors: Mapping[str, RawTensor]) -> tuple[int, Shard | None]:
        """Adds the tensors of one clip, in the mapping's order.

        Returns:
            The number of the shard that holds the clip, and the previous shard where this clip closed it.
        """
        size = sum(len(tensor.data) for tensor in tensors.values())
        finished = self.close() if self._samples and self._size + size > self._limit else None
        for name, tensor in tensors.items():
            _check(name, tensor)
            if name in self._tensors:
                raise ValueError(f"tensor {name!r} was added twice to shard {self._number}")
            self._tensors[name] = tensor
        self._size += size
        self._samples += 1
        return self._number, finished

    def close(self) -> Shard | None:
        """Writes the shard in hand; None where nothing was added since the last one."""
        if not self._samples:
            return None
        name = f"shards/{self._number:05d}.safetensors"
        path = self._directory / f"{self._number:05d}.safetensors"
        md5, sha256, length = _write(path, self._tensors)
        shard = Shard(path, name, md5, sha256, length, self._samples)
        self._tensors, self._size, self._samples = {}, 0, 0
        self._number += 1
        return shard


def write_tensors(path: Path, tensors: Mapping[str, RawTensor]) -> None:
    """Writes one safetensors file with the tensors in the mapping's order."""
    for name, tensor in tensors.items():
        _check(name, tensor)
    _write(path, tensors)


def _check(name: str, tensor: RawTensor) -> None:
    if tensor.dtype not in DTYPES:
        raise ValueError(f"tensor {name!r}: dtype {tensor.dtype!r} is none of {', '.join(DTYPES)}")
    elements = 1
    for length in tensor.shape:
        elements *= length
    if len(tensor.data) != elements * DTYPES[tensor.dtype]:
        raise ValueError(f"tensor {name!r}: {len(tensor.data)} bytes do not fit the shape {tensor.shape}")


def _write(path: Path, tensors: Mapping[str, RawTensor]) -> tuple[str, str, int]:
    header: dict[str, object] = {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("wb") as stream:
        for piece in (struct.pack("<Q", len(text)), text, *(tensor.data for tensor in tensors.values())):
            stream.write(piece)
            md5.update(piece)
            sha256.update(piece)
    return md5.hexdigest(), sha256.hexdigest(), 8 + len(text) + offset
