"""Reads training samples out of shards by range reads: no shard is copied, no other sample is touched."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoetrope.model.conditions import CONDITIONS, reference_frames
from zoetrope.model.data.shards import CHECKSUM, CHECKSUM_COLUMN, DTYPES, checksum

if TYPE_CHECKING:
    from torch import Tensor

Read = Callable[[str, int, int], bytes]
"""`read(uri, start, length)` gives `length` bytes of the object at `uri`, from byte `start`."""

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # names in PyTorch
_HEADER_LIMIT = 100_000_000  # safetensors' own limit for a header


class DamagedDataError(ValueError):
    """An object of a dataset is not what its digest or checksum says.

    Attributes:
        hint: what to do.
    """

    hint = "it was changed or damaged: delete it and run the step `encode` again with --fresh"


@dataclass(frozen=True)
class LatentBatch:
    """Samples of one bucket; latents are normalised to unit variance per channel.

    Attributes:
        latent: [B, C, T, H, W] the clip.
        references: name -> [B, C, L, H, W] frames at its ends, encoded by themselves: `head` and `tail` are its
            first and last frame (L = 1), the others are those of `conditions` that were asked for.
        t5: [B, L, D] T5 embeddings of the captions, zero beyond each one's length.
        t5_length: [B] int64, number of tokens of each caption.
        clip: [B, D] pooled CLIP text embeddings.
        clip_ids: identities of the clips, in the order asked for.
        captions: their captions.
    """

    latent: Tensor
    references: Mapping[str, Tensor]
    t5: Tensor
    t5_length: Tensor
    clip: Tensor
    clip_ids: tuple[str, ...]
    captions: tuple[str, ...]


class LatentDataset:
    """The samples of one bucket and split of a dataset version, in order of their clip identity.

    Attributes:
        clip_ids: identity of every sample.
        captions: caption of every sample.
        null_t5: [L, D] T5 embedding of the empty caption.
        null_clip: [D] CLIP embedding of the empty caption.
    """

    def __init__(
        self,
        shards: Sequence[_TensorFile],
        bucket: str,
        rows: Sequence[Mapping[str, Any]],
        null_t5: Tensor,
        null_clip: Tensor,
        references: Sequence[str],
    ) -> None:
        """Use `open`."""
        self._shards = shards
        self._bucket = bucket
        self._references = tuple(references)
        self._shard_of = tuple(int(row["shard"]) for row in rows)
        # Indexes of older versions have none; those tensors are taken as they come.
        self._checksums = tuple(
            {name.removeprefix(CHECKSUM_COLUMN): int(value) for name, value in row.items()
             if name.startswith(CHECKSUM_COLUMN) and value is not None}
            for row in rows
        )  # fmt: skip
        self.clip_ids = tuple(str(row["clip_id"]) for row in rows)
        self.captions = tuple(str(row["caption"]) for row in rows)
        self.null_t5 = null_t5
        self.null_clip = null_clip

    @classmethod
    def open(
        cls,
        manifest: Mapping[str, Any],
        read: Read,
        bucket: str,
        split: str = "train",
        conditions: Iterable[str] = (),
    ) -> LatentDataset:
        """Opens a dataset version.

        Args:
            manifest: a `zoetrope.dataset.v1` manifest.
            read: range read of the store that the manifest's URIs name.
            bucket: e.g. `64px_16f`.
            split: `train` or `held_out`.
            conditions: kinds of `conditions.CONDITIONS` whose references are read, besides first and last frames.

        Raises:
            ValueError: the manifest is of another kind, or there is no such sample or reference; the message names
                the buckets and splits, or references, that exist.
            DamagedDataError: the index or the embedding of the empty caption is not what its digest says.
        """
        if manifest.get("schema") != "zoetrope.dataset.v1":
            raise ValueError(f"not a dataset manifest: its schema is {manifest.get('schema')!r}")
        if manifest.get("checksum", CHECKSUM) != CHECKSUM:
            raise ValueError(f"this dataset has checksums {manifest['checksum']!r}, this version reads {CHECKSUM!r}")
        rows = _index(manifest, read, bucket, split)
        shards = [_TensorFile(shard["uri"], read) for shard in manifest["shards"]]
        text = manifest["text"]
        null_t5 = _TensorFile.whole(text["null_t5"], read).tensors({"t5": None})["t5"]
        null_clip = _TensorFile.whole(text["null_clip"], read).tensors({"clip": None})["clip"]
        names = reference_names(manifest, bucket, conditions)
        return cls(shards, bucket, rows, null_t5, null_clip, names)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def batch(self, indices: Sequence[int]) -> LatentBatch:
        """Reads samples by their position (0 to len - 1), in the order given; positions may repeat.

        Raises:
            DamagedDataError: a tensor is not what its checksum says.
        """
        import torch

        samples = [self._sample(index) for index in indices]
        texts = [sample["t5"] for sample in samples]
        return LatentBatch(
            latent=torch.stack([sample["latent"] for sample in samples]),
            references={name: torch.stack([sample[name] for sample in samples]) for name in self._references},
            t5=torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
            t5_length=torch.tensor([len(text) for text in texts]),
            clip=torch.stack([sample["clip"] for sample in samples]),
            clip_ids=tuple(self.clip_ids[index] for index in indices),
            captions=tuple(self.captions[index] for index in indices),
        )

    def _sample(self, index: int) -> dict[str, Tensor]:
        clip_id = self.clip_ids[index]
        names = {name: f"{clip_id}/{self._bucket}/{name}" for name in ("latent", *self._references)}
        names |= {name: f"{clip_id}/{name}" for name in ("t5", "clip")}
        checksums = self._checksums[index]
        tensors = self._shards[self._shard_of[index]].tensors(
            {full: checksums.get(name) for name, full in names.items()}
        )
        return {name: tensors[full] for name, full in names.items()}


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


class _TensorFile:
    """One safetensors object in the store; its header is read once, at first use."""

    def __init__(self, uri: str, read: Read) -> None:
        self._uri = uri
        self._read = read
        self._entries: dict[str, Any] | None = None
        self._start = 0

    @classmethod
    def whole(cls, reference: str, read: Read) -> _TensorFile:
        """A small file, read at once and compared with the digest of its reference."""
        uri, _, digest = reference.rpartition("@sha256:")
        file = cls(uri, read)
        entries = file._header()
        length = file._start + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        data = read(uri, 0, length + 1)  # one more: a longer file is another one
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedDataError(f"{uri}: content does not match its digest {digest[:12]}")
        return cls(uri, lambda _, start, length: data[start : start + length])

    def tensors(self, wanted: Mapping[str, int | None]) -> dict[str, Tensor]:
        """Reads tensors (name -> checksum where it is known); neighbours in the file come with one read."""
        import torch

        entries = self._header()
        missing = [name for name in wanted if name not in entries]
        if missing:
            raise DamagedDataError(f"{self._uri}: tensor {missing[0]!r} is not in this shard")
        result: dict[str, Tensor] = {}
        for run in _runs(sorted(wanted, key=lambda name: int(entries[name]["data_offsets"][0])), entries):
            first, last = entries[run[0]]["data_offsets"][0], entries[run[-1]]["data_offsets"][1]
            data = bytearray(self._read(self._uri, self._start + first, last - first))
            if len(data) != last - first:
                raise DamagedDataError(f"{self._uri}: ends before tensor {run[-1]!r}; the shard is truncated")
            for name in run:
                entry = entries[name]
                begin, end = entry["data_offsets"]
                piece = memoryview(data)[begin - first : end - first]
                expected = wanted[name]
                if expected is not None and checksum(entry["dtype"], entry["shape"], piece) != expected:
                    raise DamagedDataError(f"{self._uri}: tensor {name!r} does not match its checksum")
                dtype = getattr(torch, _DTYPES[entry["dtype"]])
                result[name] = torch.frombuffer(piece, dtype=dtype).reshape(entry["shape"])
        return result

    def _header(self) -> dict[str, Any]:
        if self._entries is None:
            prefix = self._read(self._uri, 0, 8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _HEADER_LIMIT + 1
            if length > _HEADER_LIMIT:
                raise DamagedDataError(f"{self._uri}: not a safetensors file")
            try:
                entries: dict[str, Any] = json.loads(self._read(self._uri, 8, length))
                entries.pop("__metadata__", None)
                for entry in entries.values():
                    first, last = entry["data_offsets"]
                    if first < 0 or last - first != math.prod(entry["shape"]) * DTYPES[entry["dtype"]]:
                        raise ValueError
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                raise DamagedDataError(f"{self._uri}: its header is no safetensors header") from error
            self._entries, self._start = entries, 8 + length
        return self._entries


def _runs(names: Sequence[str], entries: Mapping[str, Any]) -> list[list[str]]:
    """Groups names whose bytes follow each other without a gap."""
    runs: list[list[str]] = []
    for name in names:
        if runs and entries[runs[-1][-1]]["data_offsets"][1] == entries[name]["data_offsets"][0]:
            runs[-1].append(name)
        else:
            runs.append([name])
    return runs


def _index(manifest: Mapping[str, Any], read: Read, bucket: str, split: str) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    uri, _, digest = str(manifest["index"]).rpartition("@sha256:")
    data = read(uri, 0, int(manifest["index_bytes"]))
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedDataError(f"{uri}: content does not match its digest {digest[:12]}")
    # Without Arrow's threads: one that lets go of Python's bytes while the interpreter ends aborts the process.
    source = pyarrow.BufferReader(data)
    table = pyarrow.parquet.read_table(source, use_threads=False, pre_buffer=False)
    rows: list[dict[str, Any]] = table.to_pylist()
    chosen = [row for row in rows if row["bucket"] == bucket and row["split"] == split]
    if not chosen:
        name = manifest.get("name", "")
        counts: dict[str, int] = {}
        for row in rows:
            key = f"{row['bucket']}/{row['split']}"
            counts[key] = counts.get(key, 0) + 1
        exist = ", ".join(f"{key} ({count} clips)" for key, count in sorted(counts.items())) or "none"
        raise ValueError(
            f"dataset {name!r} has no clip in bucket {bucket!r}, split {split!r}; bucket/split that exist: {exist}"
        )
    return sorted(chosen, key=lambda row: str(row["clip_id"]))
