"""The index of a dataset as columns in mapped files: made once a machine, shared by its processes.

The Parquet file is read in pieces and written as files of fixed-width values. Numbers that all rows are asked for are
mapped, texts and checksums are read by row: a process holds some twenty bytes a row, most of it shared by all ranks of
the machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.data.reads import LocalPath, OpenFile, Read
from zoetrope.model.data.shards import CHECKSUM_COLUMN

LAYOUT = 1  # of the files; part of the folder's name
PIECE_BYTES = 16 << 20
PIECE_ROWS = 1 << 16
BUFFER_BYTES = 1 << 20  # of each column's compressed bytes at a time
NUMBERS = {"bucket": np.int16, "split": np.int16, "shard": np.int32, "t5_tokens": np.int32, "clip": np.int32}
"""Columns of numbers: codes of `buckets` and `splits`, position of the shard, tokens of the caption, and `clip`: the
position of the clip's identity among all identities, sorted."""
TEXTS = ("clip_id", "caption")


class Texts:
    """A column of texts in a file; read one by one, since a map of it would count as this process's memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ends, self._text = OpenFile(folder / f"{name}.ends"), OpenFile(folder / f"{name}.text")

    def __getitem__(self, row: int) -> str:
        start, end = np.frombuffer(self._ends.read(8 * row, 16), np.int64)
        return self._text.read(int(start), int(end - start)).decode()


class Columns:
    """The rows of an index: one for each clip and bucket.

    Attributes:
        buckets, splits: names behind the codes.
        bucket, split: [rows] int16 codes.
        shard: [rows] int32.
        t5_tokens: [rows] int32.
        clip: [rows] int32, equal for the rows of one clip and ascending with its identity.
        clip_ids, captions: texts by row.
    """

    def __init__(self, folder: Path) -> None:
        described = json.loads((folder / "columns.json").read_bytes())
        self.buckets, self.splits = tuple(described["buckets"]), tuple(described["splits"])
        self.bucket, self.split, self.shard, self.t5_tokens, self.clip = (
            _mapped(folder / f"{name}.npy") for name in NUMBERS
        )
        self._sums = tuple(described["checksums"])
        self._checksums = OpenFile(folder / "checksums")
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

    def checksums(self, row: int) -> dict[str, int]:
        """Name of a tensor (`latent`, `t5`, ...) -> its checksum; without those that the index does not know."""
        width = 8 * (len(self._sums) + 1)
        held, *sums = np.frombuffer(self._checksums.read(width * row, width), np.int64).tolist()
        return {name: value for bit, (name, value) in enumerate(zip(self._sums, sums, strict=True)) if held >> bit & 1}

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
    """Columns of numbers as arrays; of each text and each row of checksums first where it ends or what is known."""
    import pyarrow.parquet

    # Without Arrow's threads: one that lets go of Python's memory while the interpreter ends aborts the process.
    with pyarrow.parquet.ParquetFile(
        parquet, read_dictionary=["bucket", "split"], pre_buffer=False, buffer_size=BUFFER_BYTES
    ) as file:
        rows = file.metadata.num_rows
        sums = sorted(name for name in file.schema_arrow.names if name.startswith(CHECKSUM_COLUMN))
        codes: dict[str, dict[str, int]] = {"bucket": {}, "split": {}}
        arrays = {name: np.empty(rows, dtype) for name, dtype in NUMBERS.items()}
        names = [*TEXTS, "bucket", "split", "shard", "t5_tokens", *sums]
        with ExitStack() as files:
            stream = {
                name: files.enter_context((folder / name).open("wb"))
                for name in ("checksums", *(f"{text}.{part}" for text in TEXTS for part in ("ends", "text")))
            }
            for name in TEXTS:
                stream[f"{name}.ends"].write(bytes(8))
            at = 0
            for batch in file.iter_batches(PIECE_ROWS, columns=names, use_threads=False):
                here = slice(at, at + len(batch))
                for name in TEXTS:
                    ends = _append(batch.column(name), stream[f"{name}.text"])
                    stream[f"{name}.ends"].write(ends.data)
                for name, known in codes.items():
                    arrays[name][here] = _coded(batch.column(name), known)
                for name in ("shard", "t5_tokens"):
                    arrays[name][here] = batch.column(name).to_numpy(zero_copy_only=False)
                stream["checksums"].write(_checksums([batch.column(name) for name in sums], len(batch)).data)
                at += len(batch)
    pyarrow.default_memory_pool().release_unused()
    _number_clips(_sortable(folder, rows), arrays["clip"])
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    described = {
        "buckets": list(codes["bucket"]),
        "splits": list(codes["split"]),
        "checksums": [name.removeprefix(CHECKSUM_COLUMN) for name in sums],
    }
    (folder / "columns.json").write_text(json.dumps(described))


def _checksums(columns: Sequence[Any], rows: int) -> npt.NDArray[np.int64]:
    """[rows, 1 + kinds]: a bit for each kind that is known, and the values."""
    table = np.zeros((rows, 1 + len(columns)), np.int64)
    for number, column in enumerate(columns):
        known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.int64)
        table[:, 0] |= known << number
        table[:, 1 + number] = column.fill_null(0).to_numpy(zero_copy_only=False)
    return table


def _sortable(folder: Path, rows: int) -> npt.NDArray[np.bytes_]:
    """All identities as one array of bytes; mapped where all have one length, as digests do."""
    ends = np.fromfile(folder / "clip_id.ends", np.int64)
    lengths = np.diff(ends)
    if rows and lengths[0] and (lengths == lengths[0]).all():
        return np.memmap(folder / "clip_id.text", f"S{lengths[0]}", "r")
    texts = Texts(folder, "clip_id")
    return np.array([texts[row].encode() for row in range(rows)], "S")


def _number_clips(texts: npt.NDArray[np.bytes_], clip: npt.NDArray[Any]) -> None:
    """Numbers the identities in their order; equal ones get the same number."""
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


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array
