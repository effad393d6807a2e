"""The index of a dataset as columns in mapped files: made once a machine, shared by its processes.

The Parquet file is read in pieces and written as one file of fixed-width values a column, so that a process holds
what it touches and not a million Python objects; the memory is the page cache's, once for all ranks of a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.data.reads import LocalPath, Read
from zoetrope.model.data.shards import CHECKSUM_COLUMN

LAYOUT = 1  # of the files; part of the folder's name
PIECE_BYTES = 16 << 20
PIECE_ROWS = 1 << 16
NUMBERS = {"bucket": np.int16, "split": np.int16, "shard": np.int32, "t5_tokens": np.int32, "clip": np.int32}
"""Columns of numbers: codes of `buckets` and `splits`, position of the shard, tokens of the caption, and `clip`: the
position of the clip's identity among all identities, sorted."""
TEXTS = ("clip_id", "caption")


class Texts:
    """A mapped column of texts."""

    def __init__(self, folder: Path, name: str) -> None:
        self.ends: npt.NDArray[np.int64] = _mapped(folder / f"{name}.ends.npy")
        file = folder / f"{name}.text"
        self.data = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.empty(0, np.uint8)

    def __getitem__(self, row: int) -> str:
        start = int(self.ends[row - 1]) if row else 0
        return self.data[start : int(self.ends[row])].tobytes().decode()

    def sortable(self) -> npt.NDArray[np.bytes_]:
        """All of them as one array of bytes; mapped too where all have one length, as digests do."""
        lengths = np.diff(self.ends, prepend=0)
        if len(lengths) and lengths[0] and (lengths == lengths[0]).all():
            return self.data.view(f"S{lengths[0]}")
        return np.array([self[row].encode() for row in range(len(self.ends))], "S")


class Columns:
    """The rows of an index: one for each clip and bucket.

    Attributes:
        buckets, splits: names behind the codes.
        bucket, split: [rows] int16 codes.
        shard: [rows] int32.
        t5_tokens: [rows] int32.
        clip: [rows] int32, equal for the rows of one clip and ascending with its identity.
        checksums: name of a tensor -> [rows] int64.
        held: [rows] uint32, bit i set where the i-th of `checksums` is known.
        clip_ids, captions: texts by row.
    """

    def __init__(self, folder: Path) -> None:
        described = json.loads((folder / "columns.json").read_bytes())
        self.buckets, self.splits = tuple(described["buckets"]), tuple(described["splits"])
        self.bucket, self.split, self.shard, self.t5_tokens, self.clip = (
            _mapped(folder / f"{name}.npy") for name in NUMBERS
        )
        self.checksums = {
            name: _mapped(folder / f"{CHECKSUM_COLUMN}{number}.npy")
            for number, name in enumerate(described["checksums"])
        }
        self.held: npt.NDArray[np.uint32] = _mapped(folder / "held.npy")
        self.clip_ids, self.captions = Texts(folder, "clip_id"), Texts(folder, "caption")

    def __len__(self) -> int:
        return len(self.bucket)

    def rows(self, bucket: str, split: str) -> npt.NDArray[np.intp]:
        """Rows of a bucket and split, ascending by clip; empty where there is no such bucket or split."""
        if bucket not in self.buckets or split not in self.splits:
            return np.empty(0, np.intp)
        found = np.flatnonzero((self.bucket == self.buckets.index(bucket)) & (self.split == self.splits.index(split)))
        clips = self.clip[found]
        return found if (clips[1:] > clips[:-1]).all() else found[np.argsort(clips, kind="stable")]

    def checksum(self, row: int, tensor: str) -> int | None:
        """Of a tensor of a sample (`latent`, `t5`, ...); None where the index does not know it."""
        for number, (name, values) in enumerate(self.checksums.items()):
            if name == tensor:
                return int(values[row]) if int(self.held[row]) >> number & 1 else None
        return None

    def counts(self) -> dict[str, int]:
        """`BUCKET/SPLIT` -> clips, sorted by name."""
        codes = self.bucket.astype(np.int32) * len(self.splits) + self.split
        numbers = np.bincount(codes, minlength=len(self.buckets) * len(self.splits)) if len(codes) else ()
        names = [f"{bucket}/{split}" for bucket in self.buckets for split in self.splits]
        return {name: int(count) for name, count in sorted(zip(names, numbers, strict=False)) if count}


def open_columns(manifest: Mapping[str, Any], read: Read, local: LocalPath | None, folder: Path) -> Columns:
    """The index of a dataset version; made in `folder` by the first process that asks, the others wait for it.

    Args:
        manifest: of the dataset.
        read: range read of the store.
        local: finds files of the store that lie on this disk.
        folder: of this machine; kept as long as the columns are used, and good for later openings.

    Raises:
        DamagedDataError: the index is not what its digest says.
    """
    uri, _, digest = str(manifest["index"]).rpartition("@sha256:")
    target = folder / f"index-{digest[:32]}-{LAYOUT}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{target.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when the process ends, however it does
        if not target.exists():
            part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=folder))
            try:
                with _parquet(uri, digest, int(manifest["index_bytes"]), read, local, part) as path:
                    _write(path, part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return Columns(target)


@contextmanager
def _parquet(uri: str, digest: str, size: int, read: Read, local: LocalPath | None, folder: Path) -> Iterator[Path]:
    """A file with the index, compared with its digest; a copy is removed afterwards."""
    own = None if local is None else local(uri)
    copy = folder / "index.parquet"
    summed = hashlib.sha256()
    with copy.open("wb") as stream:
        for start in range(0, size, PIECE_BYTES):
            piece = read(uri, start, min(PIECE_BYTES, size - start))
            summed.update(piece)
            if own is None:
                stream.write(piece)
    if summed.hexdigest() != digest or (own is not None and own.stat().st_size != size):
        raise DamagedDataError(f"{uri}: content does not match its digest {digest[:12]}", uri)
    yield own or copy
    copy.unlink()


def _write(parquet: Path, folder: Path) -> None:
    import pyarrow.parquet

    # Without Arrow's threads: one that lets go of Python's memory while the interpreter ends aborts the process.
    with pyarrow.parquet.ParquetFile(parquet, read_dictionary=["bucket", "split"], pre_buffer=False) as file:
        rows = file.metadata.num_rows
        sums = sorted(name for name in file.schema_arrow.names if name.startswith(CHECKSUM_COLUMN))
        if len(sums) > 32:
            raise ValueError(f"the index has checksums of {len(sums)} kinds of tensor, more than 32")
        codes: dict[str, dict[str, int]] = {"bucket": {}, "split": {}}
        arrays = {name: _new(folder / f"{name}.npy", dtype, rows) for name, dtype in NUMBERS.items()}
        arrays["held"] = _new(folder / "held.npy", np.uint32, rows)
        for number in range(len(sums)):
            arrays[f"{CHECKSUM_COLUMN}{number}"] = _new(folder / f"{CHECKSUM_COLUMN}{number}.npy", np.int64, rows)
        ends = {name: _new(folder / f"{name}.ends.npy", np.int64, rows) for name in TEXTS}
        names = [*TEXTS, "bucket", "split", "shard", "t5_tokens", *sums]
        with (folder / "clip_id.text").open("wb") as ids, (folder / "caption.text").open("wb") as captions:
            at = 0
            for batch in file.iter_batches(PIECE_ROWS, columns=names, use_threads=False):
                here = slice(at, at + len(batch))
                for name, stream in (("clip_id", ids), ("caption", captions)):
                    ends[name][here] = _append(batch.column(name), stream)
                for name, known in codes.items():
                    arrays[name][here] = _coded(batch.column(name), known)
                for name in ("shard", "t5_tokens"):
                    arrays[name][here] = batch.column(name).to_numpy(zero_copy_only=False)
                for number, name in enumerate(sums):
                    column = batch.column(name)
                    arrays["held"][here] |= np.left_shift(_valid(column).astype(np.uint32), np.uint32(number))
                    arrays[f"{CHECKSUM_COLUMN}{number}"][here] = column.fill_null(0).to_numpy(zero_copy_only=False)
                at += len(batch)
    pyarrow.default_memory_pool().release_unused()
    _number_clips(Texts(folder, "clip_id"), arrays["clip"])
    described = {
        "buckets": list(codes["bucket"]),
        "splits": list(codes["split"]),
        "checksums": [name.removeprefix(CHECKSUM_COLUMN) for name in sums],
    }
    (folder / "columns.json").write_text(json.dumps(described))


def _number_clips(ids: Texts, clip: npt.NDArray[Any]) -> None:
    """Numbers the identities in their order; equal ones get the same number."""
    texts = ids.sortable()
    order = np.argsort(texts, kind="stable")  # finds the sorted stretch of each bucket
    number, last = -1, b""
    for start in range(0, len(order), PIECE_ROWS):
        part = order[start : start + PIECE_ROWS]
        sorted_texts = texts[part]
        new = np.concatenate([[number < 0 or sorted_texts[0] != last], sorted_texts[1:] != sorted_texts[:-1]])
        numbers = number + np.cumsum(new)
        clip[part] = numbers
        number, last = int(numbers[-1]), sorted_texts[-1]


def _append(column: Any, stream: BinaryIO) -> npt.NDArray[np.int64]:
    """Writes the texts of an Arrow column behind each other; where each one ends in the file."""
    import pyarrow

    texts = pyarrow.concat_arrays([column.cast(pyarrow.large_string())])
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    start = stream.tell()
    if len(texts) and data is not None:
        stream.write(memoryview(data)[int(bounds[0]) : int(bounds[-1])])
    return np.asarray(bounds[1:] - bounds[:1] + start, np.int64)


def _coded(column: Any, known: dict[str, int]) -> npt.NDArray[np.int16]:
    """Codes of a dictionary column; new names are added to `known`."""
    names: Sequence[str] = column.dictionary.to_pylist()
    table = np.array([known.setdefault(name, len(known)) for name in names], np.int16)
    return np.asarray(table[column.indices.to_numpy(zero_copy_only=False)], np.int16)


def _valid(column: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _new(path: Path, dtype: Any, rows: int) -> npt.NDArray[Any]:
    if not rows:  # an empty file cannot be mapped
        np.save(path, np.empty(0, dtype))
        return np.empty(0, dtype)
    return np.lib.format.open_memmap(path, "w+", dtype, (rows,))


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except ValueError:  # empty
        array = np.load(path)
    return array
