"""Small dataset versions in a folder, for the tests of what reads them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from zoetrope.model.data import ShardWriter, raw_tensor
from zoetrope.model.data.shards import checksum, write_tensors

TEXT = ("clip", "t5")


class Objects:
    """A folder whose file names are the URIs, counting what is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reads: list[tuple[str, int, int]] = []

    def read(self, uri: str, start: int, length: int) -> bytes:
        self.reads.append((uri, start, length))
        return (self.folder / uri).read_bytes()[start : start + length]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def write_clips(
    folder: Path, clips: Mapping[str, Sequence[str]], shapes: Mapping[str, Sequence[int]], clips_per_shard: int = 100
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A training split: clip -> its buckets, bucket -> [C, T, H, W]; returns the manifest and all tensors."""
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    everything: dict[str, Tensor] = {}
    shards: list[str] = []
    for number, (clip_id, buckets) in enumerate(clips.items()):
        if number % clips_per_shard == 0:
            writer = ShardWriter(folder / f"part{len(shards)}", 10**6)
            shards.append(f"part{len(shards)}/00000.safetensors")
        tensors: dict[str, Tensor] = {}
        for bucket in buckets:
            channels, frames, height, width = shapes[bucket]
            for name, length in (("head", 1), ("latent", frames), ("tail", 1)):
                shape = (channels, length, height, width)
                tensors[f"{clip_id}/{bucket}/{name}"] = torch.randn(shape, generator=generator)
        tensors[f"{clip_id}/clip"] = torch.randn(5, generator=generator)
        tensors[f"{clip_id}/t5"] = torch.randn(number % 4 + 1, 6, generator=generator)
        everything |= tensors
        raw = {name: raw_tensor(tensor) for name, tensor in tensors.items()}
        writer.add(raw)
        if number % clips_per_shard == clips_per_shard - 1 or number == len(clips) - 1:
            writer.close()
        sums = {name: checksum(each.dtype, each.shape, each.data) for name, each in raw.items()}
        for bucket in buckets:
            names = {name: f"{clip_id}/{bucket}/{name}" for name in ("head", "latent", "tail")}
            names |= {name: f"{clip_id}/{name}" for name in TEXT}
            rows.append(
                {
                    "clip_id": clip_id,
                    "bucket": bucket,
                    "shard": len(shards) - 1,
                    "split": "train",
                    "caption": f"caption of {clip_id}",
                    "t5_tokens": number % 4 + 1,
                    **{f"checksum_{name}": sums[full] for name, full in names.items()},
                }
            )
    rows.sort(key=lambda row: (row["bucket"], row["clip_id"]))
    entries = [{"name": name, "frames": 4 * shape[1], "latent": list(shape)} for name, shape in shapes.items()]
    manifest = manifest_of(folder, pyarrow.Table.from_pylist(rows), shards) | {"buckets": entries}
    return manifest, everything


def manifest_of(folder: Path, index: pyarrow.Table, shards: Sequence[str]) -> dict[str, Any]:
    """Writes index and null texts; the manifest."""
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(index, buffer)
    (folder / "index").write_bytes(buffer.getvalue())
    write_tensors(folder / "null_t5", {"t5": raw_tensor(torch.full((1, 6), 7.0))})
    write_tensors(folder / "null_clip", {"clip": raw_tensor(torch.full((5,), 8.0))})
    reference = {
        name: f"{name}@sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
        for name in ("index", "null_t5", "null_clip")
    }
    return {
        "schema": "zoetrope.dataset.v1",
        "name": "tiny",
        "index": reference["index"],
        "index_bytes": len(buffer.getvalue()),
        "shards": [{"uri": uri} for uri in shards],
        "text": {name: reference[name] for name in ("null_t5", "null_clip")},
    }
