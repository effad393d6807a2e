"""Headers of safetensors files: one entry is read out of their text, and the texts are kept up to a limit.

A shard of 512 MB has a header of some hundred kilobytes, and a sample needs five of its thousands of entries: parsing
all of them costs more than reading the sample, and keeping them parsed costs gigabytes at a thousand shards.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.data.reads import Bytes, Range, RangeReader, Read

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 100_000_000  # safetensors' own limit for a header
FIRST_BYTES = 1 << 18  # read at once: most headers end before, so that one request brings them
KEPT_BYTES = 32 << 20  # of header text
CLIP_TEXT = 1 << 13  # the other entries of a clip lie within so many bytes of the first one that was found

DTYPES = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "U16": ("uint16", 2), "I16": ("int16", 2),
    "U32": ("uint32", 4), "I32": ("int32", 4), "U64": ("uint64", 8), "I64": ("int64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "F16": ("float16", 2), "BF16": ("bfloat16", 2), "F32": ("float32", 4), "F64": ("float64", 8),
    "C64": ("complex64", 8),
}  # fmt: skip
"""safetensors' dtypes of whole bytes: its name -> name in PyTorch, bytes of an element."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a file.

    Attributes:
        dtype: safetensors name, one of `DTYPES`.
        shape: lengths of the dimensions.
        start: first byte, counted from the beginning of the file.
        end: behind the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header:
    """The text of a header and where the tensors begin."""

    def __init__(self, uri: str, text: bytes) -> None:
        self.uri, self.text = uri, text
        self._decoder = json.JSONDecoder()

    def entries(self, names: Sequence[str]) -> list[Entry]:
        """The entries of tensors, which may lie anywhere but are found fastest in the order of the file.

        Raises:
            DamagedDataError: there is no such tensor, or the header is damaged there.
        """
        found: list[Entry] = []
        near = 0
        for name in names:
            key = json.dumps(name).encode() + b":{"  # values of `__metadata__` are no objects
            at = self.text.find(key, near)
            if at < 0:
                at = self.text.find(key)
            if at < 0:
                found.append(self._entry(name, self._parsed().get(name)))
                continue
            near = near or max(at - CLIP_TEXT, 0)
            end = self.text.find(b"}", at) + 1
            try:
                value = json.loads(self.text[at + len(key) - 1 : end])
            except ValueError as error:
                raise self._damaged() from error
            found.append(self._entry(name, value))
        return found

    def end(self) -> int:
        """Length of the file as the header says it."""
        values = [(name, value) for name, value in self._parsed().items() if name != "__metadata__"]
        return max((self._entry(name, value).end for name, value in values), default=8 + len(self.text))

    def _parsed(self) -> dict[str, Any]:
        """All of it: for small files, and for spellings that are not the shortest one."""
        try:
            parsed = json.loads(self.text)
        except ValueError as error:
            raise self._damaged() from error
        if not isinstance(parsed, dict):
            raise self._damaged()
        return parsed

    def _entry(self, name: str, value: Any) -> Entry:
        if value is None:
            raise DamagedDataError(f"{self.uri}: tensor {name!r} is not in this shard", self.uri, name)
        try:
            first, last = value["data_offsets"]
            dtype, shape = value["dtype"], tuple(int(length) for length in value["shape"])
            if first < 0 or last - first != math.prod(shape) * DTYPES[dtype][1]:
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise self._damaged() from error
        start = 8 + len(self.text)
        return Entry(dtype, shape, start + first, start + last)

    def _damaged(self) -> DamagedDataError:
        return DamagedDataError(f"{self.uri}: its header is no safetensors header", self.uri)


class Headers:
    """Headers by URI; the least recently used ones are forgotten. May be used by several threads."""

    def __init__(self, reader: RangeReader, kept_bytes: int = KEPT_BYTES) -> None:
        self._reader, self._limit = reader, kept_bytes
        self._kept: OrderedDict[str, Header] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, uris: Iterable[str]) -> dict[str, Header | DamagedDataError]:
        """The headers, those that are not known read at once; an error in the place of a damaged one."""
        found: dict[str, Header | DamagedDataError] = {}
        missing: list[str] = []
        with self._lock:
            for uri in dict.fromkeys(uris):
                known = self._kept.get(uri)
                if known is None:
                    missing.append(uri)
                else:
                    self._kept.move_to_end(uri)
                    found[uri] = known
        if missing:
            read = read_headers(self._reader, missing)
            found |= read
            self._keep([header for header in read.values() if isinstance(header, Header)])
        return found

    def _keep(self, headers: Sequence[Header]) -> None:
        with self._lock:
            for header in headers:
                if header.uri not in self._kept:
                    self._kept[header.uri] = header
                    self._bytes += len(header.text)
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1].text)


def read_headers(reader: RangeReader, uris: Sequence[str]) -> dict[str, Header | DamagedDataError]:
    """Reads the headers of files, all at once, and the rest of long ones, all at once."""
    found: dict[str, Header | DamagedDataError] = {}
    rest: dict[str, tuple[bytes, Range]] = {}
    for uri, first in zip(uris, reader.fetch([Range(uri, 0, FIRST_BYTES) for uri in uris]), strict=True):
        length = int.from_bytes(first[:8].tobytes(), "little") if len(first) >= 8 else HEADER_LIMIT + 1
        if length > HEADER_LIMIT:
            found[uri] = DamagedDataError(f"{uri}: not a safetensors file", uri)
            continue
        text = first[8 : 8 + length].tobytes()
        if len(text) == length:
            found[uri] = Header(uri, text)
        else:
            rest[uri] = text, Range(uri, len(first), 8 + length)
    more = reader.fetch([place for _, place in rest.values()])
    for (uri, (text, place)), data in zip(rest.items(), more, strict=True):
        whole = len(data) == place.end - place.start
        broken = DamagedDataError(f"{uri}: its header is no safetensors header", uri)
        found[uri] = Header(uri, text + data.tobytes()) if whole else broken
    return found


def as_tensor(entry: Entry, data: Bytes) -> Tensor:
    """The tensor in these bytes, without a copy where they are aligned."""
    import torch

    name, size = DTYPES[entry.dtype]
    if data.ctypes.data % size:
        data = data.copy()
    return torch.from_numpy(data).view(getattr(torch, name)).reshape(entry.shape)


def whole_tensor(reference: str, name: str, read: Read) -> Tensor:
    """A tensor of a small file that is read at once and compared with the digest of its reference.

    Raises:
        DamagedDataError: it is not what the digest says.
    """
    uri, _, digest = reference.rpartition("@sha256:")
    header = read_headers(RangeReader(read), [uri])[uri]
    if isinstance(header, DamagedDataError):
        raise header
    data = read(uri, 0, header.end() + 1)  # one more: a longer file is another one
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedDataError(f"{uri}: content does not match its digest {digest[:12]}", uri)
    entry = header.entries([name])[0]
    return as_tensor(entry, np.frombuffer(bytearray(data[entry.start : entry.end]), np.uint8))
