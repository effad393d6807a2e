"""Reads training samples out of shards by range reads: no shard is copied, no other sample is touched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from zoetrope.model.conditions import CONDITIONS, reference_frames
from zoetrope.model.data.columns import Columns, open_columns
from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.data.headers import Entry, Headers, as_tensor, whole_tensor
from zoetrope.model.data.reads import Bytes, LocalPath, Range, RangeReader, Read
from zoetrope.model.data.samples import LatentBatch, LatentSample, collate
from zoetrope.model.data.shards import CHECKSUM, checksum

if TYPE_CHECKING:
    from torch import Tensor

Sample = tuple[int, str]
"""(row, bucket): a clip of a dataset in one of its buckets."""
TEXT = ("t5", "clip")
"""Tensors of a clip's caption, the same in all buckets."""


class LatentDataset:
    """The samples of a split of a dataset version: rows are clips in order of their identity, in one bucket or more.

    May be used by several threads. Its columns are mapped from files that the processes of a machine share.

    Attributes:
        buckets: names of the buckets that are open.
        t5_tokens: [rows] int32, tokens of each clip's caption.
        null_t5: [L, D] T5 embedding of the empty caption.
        null_clip: [D] CLIP embedding of the empty caption.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        columns: Columns,
        reader: RangeReader,
        places: Mapping[str, npt.NDArray[np.int32]],
        null: tuple[Tensor, Tensor],
        conditions: Sequence[str],
        check: Literal["each", "first"],
    ) -> None:
        """Use `open`. `places`: bucket -> [rows] row of the index, -1 where the clip is not in the bucket."""
        self._uris = [str(shard["uri"]) for shard in manifest["shards"]]
        self._columns, self._reader, self._places = columns, reader, places
        self._headers = Headers(reader)
        self._entries = {str(entry["name"]): entry for entry in manifest.get("buckets", ())}
        self._references = {bucket: reference_names(manifest, bucket, conditions) for bucket in places}
        self._any = np.maximum.reduce(list(places.values()))  # of each clip a row of the index
        self._checked = np.zeros(len(columns), np.bool_) if check == "first" else None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.buckets = tuple(places)
        self.t5_tokens: npt.NDArray[np.int32] = columns.t5_tokens[self._any]
        self.null_t5, self.null_clip = null

    @classmethod
    def open(
        cls,
        manifest: Mapping[str, Any],
        read: Read,
        bucket: str | Sequence[str],
        split: str = "train",
        conditions: Iterable[str] = (),
        *,
        local: LocalPath | None = None,
        cache: Path | None = None,
        parallel: int = 8,
        check: Literal["each", "first"] = "each",
    ) -> LatentDataset:
        """Opens a dataset version.

        Args:
            manifest: a `zoetrope.dataset.v1` manifest.
            read: range read of the store that the manifest's URIs name; called by several threads.
            bucket: e.g. `64px_16f`, or several of them.
            split: `train` or `held_out`.
            conditions: kinds of `conditions.CONDITIONS` whose references are read, besides first and last frames.
            local: finds files of the store on this machine's disk, which are then read where they lie.
            cache: folder for the index's columns, shared by the processes of a machine and good for later openings;
                without it they are made for this process alone.
            parallel: range reads that are on their way at a time, of objects that are not local.
            check: compare tensors with their checksums `each` time they are read, or the `first` time that this
                dataset reads them (BLAKE2b takes 1.1 s of CPU a GB).

        Raises:
            ValueError: the manifest is of another kind, or there is no such sample or reference; the message names
                the buckets and splits, or references, that exist.
            DamagedDataError: the index or the embedding of the empty caption is not what its digest says.
        """
        if manifest.get("schema") != "zoetrope.dataset.v1":
            raise ValueError(f"not a dataset manifest: its schema is {manifest.get('schema')!r}")
        if manifest.get("checksum", CHECKSUM) != CHECKSUM:
            raise ValueError(f"this dataset has checksums {manifest['checksum']!r}, this version reads {CHECKSUM!r}")
        scratch = tempfile.TemporaryDirectory(prefix="zoetrope-index-") if cache is None else None
        columns = open_columns(manifest, read, local, cache or Path(scratch.name if scratch else ""))
        places = _places(str(manifest.get("name", "")), columns, [bucket] if isinstance(bucket, str) else bucket, split)
        text = manifest["text"]
        null = whole_tensor(text["null_t5"], "t5", read), whole_tensor(text["null_clip"], "clip", read)
        reader = RangeReader(read, local, parallel)
        dataset = cls(manifest, columns, reader, places, null, tuple(conditions), check)
        dataset._scratch = scratch
        return dataset

    def __len__(self) -> int:
        return len(self._any)

    def __enter__(self) -> LatentDataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes files and ends the reading threads."""
        self._reader.close()

    def clip_id(self, row: int) -> str:
        """Identity of a clip."""
        return self._columns.clip_ids[int(self._any[row])]

    def caption(self, row: int) -> str:
        """Caption of a clip."""
        return self._columns.captions[int(self._any[row])]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Identity of every clip, made anew each time: of a few clips ask `clip_id`."""
        return tuple(self.clip_id(row) for row in range(len(self)))

    def rows(self, bucket: str) -> npt.NDArray[np.int32]:
        """The rows whose clips are in a bucket, ascending."""
        return np.flatnonzero(self._places[bucket] >= 0).astype(np.int32)

    def latent_shape(self, bucket: str) -> tuple[int, int, int, int]:
        """[C, T, H, W] of a bucket's latents, by the manifest."""
        channels, frames, height, width = self._entries[bucket]["latent"]
        return int(channels), int(frames), int(height), int(width)

    def fetch(self, samples: Sequence[Sample]) -> list[LatentSample]:
        """Reads samples, in the order given; they may repeat and be of different buckets.

        All reads are sent together: latents and texts of all samples, neighbours in a file as one. Samples that were
        joined share memory.

        Raises:
            IndexError: no such row.
            ValueError: a clip is not in the bucket, or the bucket is not open.
            DamagedDataError: a tensor is not what its checksum says, or cannot be read; it names all damaged clips
                among the samples, and the message the first one in their order.
        """
        chosen = {sample: self._place(*sample) for sample in dict.fromkeys(samples)}
        shards = {sample: self._uris[int(self._columns.shard[place])] for sample, place in chosen.items()}
        headers = self._headers.get(shards.values())
        damage: dict[Sample, DamagedDataError] = {}
        found: dict[Sample, dict[str, Entry]] = {}
        for sample, uri in shards.items():
            header = headers[uri]
            names = self._names(*sample)
            try:
                if isinstance(header, DamagedDataError):
                    raise header
                found[sample] = dict(zip(names, header.entries(list(names.values())), strict=True))
            except DamagedDataError as error:
                damage[sample] = error
        wanted = [
            Range(shards[sample], entry.start, entry.end) for sample, each in found.items() for entry in each.values()
        ]
        pieces = iter(self._reader.fetch(wanted))
        read: dict[Sample, LatentSample] = {}
        for sample, entries in found.items():
            data = {name: next(pieces) for name in entries}
            try:
                self._compare(sample, chosen[sample], shards[sample], entries, data)
            except DamagedDataError as error:
                damage[sample] = error
            else:
                tensors = {name: as_tensor(entry, data[name]) for name, entry in entries.items()}
                read[sample] = self._sample(sample, chosen[sample], tensors)
        if damage:
            raise self._all_damage(damage)
        return [read[sample] for sample in samples]

    def batch(self, indices: Sequence[int], bucket: str = "") -> LatentBatch:
        """Reads samples of one bucket by their row (0 to len - 1), in the order given; rows may repeat.

        Args:
            indices: rows.
            bucket: may be left out where one bucket is open.

        Raises:
            ValueError: no bucket was named where several are open, or as in `fetch`.
            DamagedDataError: as in `fetch`.
        """
        if not bucket and len(self.buckets) > 1:
            raise ValueError(f"name the bucket of the batch: open are {', '.join(self.buckets)}")
        return collate(self.fetch([(int(index), bucket or self.buckets[0]) for index in indices]))

    def _place(self, row: int, bucket: str) -> int:
        if bucket not in self._places:
            raise ValueError(f"bucket {bucket!r} is not open; open are {', '.join(self.buckets)}")
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a dataset of {len(self)} clips")
        place = int(self._places[bucket][row])
        if place < 0:
            raise ValueError(f"clip {self.clip_id(row)} is not in bucket {bucket!r}")
        return place

    def _names(self, row: int, bucket: str) -> dict[str, str]:
        """Kind of a tensor -> its name in the shard."""
        clip_id = self.clip_id(row)
        names = {name: f"{clip_id}/{bucket}/{name}" for name in ("latent", *self._references[bucket])}
        return names | {name: f"{clip_id}/{name}" for name in TEXT}

    def _compare(
        self, sample: Sample, place: int, uri: str, entries: Mapping[str, Entry], data: Mapping[str, Bytes]
    ) -> None:
        names = self._names(*sample)
        expected = self._columns.checksums(place) if self._checked is None or not self._checked[place] else {}
        for name, entry in entries.items():
            if len(data[name]) != entry.end - entry.start:
                message = f"{uri}: ends before tensor {names[name]!r}; the shard is truncated"
                raise DamagedDataError(message, uri, names[name])
            known = expected.get(name)
            if known is not None and checksum(entry.dtype, entry.shape, data[name].data) != known:
                message = f"{uri}: tensor {names[name]!r} does not match its checksum"
                raise DamagedDataError(message, uri, names[name])
        if self._checked is not None:
            self._checked[place] = True

    def _sample(self, sample: Sample, place: int, tensors: Mapping[str, Tensor]) -> LatentSample:
        row, bucket = sample
        references = {name: tensors[name] for name in self._references[bucket]}
        clip_id, caption = self._columns.clip_ids[place], self._columns.captions[place]
        return LatentSample(
            row, bucket, clip_id, caption, tensors["latent"], references, tensors["t5"], tensors["clip"]
        )

    def _all_damage(self, damage: Mapping[Sample, DamagedDataError]) -> DamagedDataError:
        first = next(iter(damage.values()))
        rows: set[int] = set()
        for (row, _), error in damage.items():
            rows.add(row)
            if not error.tensor:  # the whole file is of no use
                rows.update(np.flatnonzero(self._columns.shard[self._any] == self._uris.index(error.uri)).tolist())
        ordered = sorted(rows)
        return DamagedDataError(str(first), first.uri, first.tensor, ordered, [self.clip_id(row) for row in ordered])


def reference_names(manifest: Mapping[str, Any], bucket: str, conditions: Iterable[str]) -> list[str]:
    """Names of the references of a bucket that some kinds of condition read; `head` and `tail` always are.

    References that are not shorter than the bucket's videos are left out: nothing would be left to make.

    Raises:
        ValueError: the dataset does not hold one; the message says how to encode it.
    """
    wanted = {name for kind in conditions for name in CONDITIONS[kind].references} - {"head", "tail"}
    found = ["head", "tail"]
    entry: Mapping[str, Any] = {}
    if wanted:
        entry = next(each for each in manifest["buckets"] if each["name"] == bucket)
    for name in sorted(wanted):
        length = name.rpartition("_")[2]
        if reference_frames(length, entry["frames"]) >= entry["frames"]:
            continue
        held = entry.get("references", ())
        if length not in held:
            raise ValueError(
                f"dataset {manifest.get('name', '')!r} holds no {length} references in bucket {bucket!r} (there: "
                f"{', '.join(held) or 'none'}), which video-to-video conditions need: encode it with "
                f"encode.references [{length}]"
            )
        found.append(name)
    return found


def _places(name: str, columns: Columns, buckets: Sequence[str], split: str) -> dict[str, npt.NDArray[np.int32]]:
    """Bucket -> row of the index of each clip that is in one of the buckets, ascending by identity; -1 for none."""
    if not buckets or len(set(buckets)) != len(buckets):
        raise ValueError(f"give buckets to open, each once, not {list(buckets)}")
    found = {bucket: columns.rows(bucket, split) for bucket in buckets}
    present = np.zeros(int(columns.clip.max()) + 1 if len(columns) else 0, np.bool_)
    for bucket, rows in found.items():
        if not len(rows):
            exist = ", ".join(f"{key} ({count} clips)" for key, count in columns.counts().items()) or "none"
            raise ValueError(
                f"dataset {name!r} has no clip in bucket {bucket!r}, split {split!r}; bucket/split that exist: {exist}"
            )
        clips = columns.clip[rows]
        if (clips[1:] == clips[:-1]).any():
            raise ValueError(f"the index of dataset {name!r} names a clip twice in bucket {bucket!r}")
        present[clips] = True
    position = np.cumsum(present, dtype=np.int32) - 1
    places = {}
    for bucket, rows in found.items():
        places[bucket] = np.full(int(present.sum()), -1, np.int32)
        places[bucket][position[columns.clip[rows]]] = rows
    return places
