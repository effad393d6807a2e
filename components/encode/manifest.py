"""The index of a dataset, its digest and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.tasks import EncodedClip
from zoetrope.infra.references import Reference, digest_json
from zoetrope.model.data.shards import CHECKSUM_COLUMN, RawTensor, checksum

if TYPE_CHECKING:
    import pyarrow

SCHEMA = "zoetrope.dataset.v1"
INDEX_COLUMNS = ("clip_id", "bucket", "shard", "split", "caption", "t5_tokens")
"""Behind them stands a column `checksum_NAME` for each kind of tensor: `checksum_latent`, `checksum_t5`, ..."""


def index_rows(clip: EncodedClip, tensors: Mapping[str, RawTensor], shard: int) -> list[dict[str, Any]]:
    """One row per bucket of the clip: the index columns and the statistics that the gate looks at.

    Args:
        clip: as it was encoded.
        tensors: all that was written of it, with the embeddings of its caption (`CLIP/t5`, `CLIP/clip`).
        shard: number of the shard that holds them.
    """
    sums: dict[str, dict[str, int]] = {bucket: {} for bucket in clip.statistics}
    for name, tensor in tensors.items():
        _, *bucket, kind = name.split("/")
        for each in bucket or sums:  # without a bucket: of the caption, and so of all rows
            sums[each][CHECKSUM_COLUMN + kind] = checksum(tensor.dtype, tensor.shape, tensor.data)
    return [
        {
            "clip_id": clip.job.clip_id,
            "bucket": bucket,
            "shard": shard,
            "split": clip.job.split,
            "caption": clip.job.caption,
            "t5_tokens": tensors[f"{clip.job.clip_id}/t5"].shape[0],
            **sums[bucket],
            **statistics,
        }
        for bucket, statistics in clip.statistics.items()
    ]


def index_table(rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
    """The index, sorted by bucket and clip."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    types = {"clip_id": text, "bucket": text, "shard": number, "split": text, "caption": text}
    sums = sorted({name for row in rows for name in row if name.startswith(CHECKSUM_COLUMN)})
    schema = pyarrow.schema({**types, "t5_tokens": number} | dict.fromkeys(sums, number))
    ordered = sorted(rows, key=lambda row: (row["bucket"], row["clip_id"]))
    columns = (*INDEX_COLUMNS, *sums)
    return pyarrow.Table.from_pylist([{name: row.get(name) for name in columns} for row in ordered], schema=schema)


def bucket_entries(config: EncodeConfig, shapes: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """The manifest's `buckets`; `references` stands in those that hold longer references than single frames."""
    return [
        {
            "name": bucket.name,
            "height": bucket.height,
            "width": bucket.width,
            "frames": bucket.frames,
            "fps": bucket.fps,
            "latent": list(shapes[bucket.name]),
            **({"references": list(names)} if (names := config.references_of(bucket)) else {}),
        }
        for bucket in config.buckets
    ]


def dataset_digest(manifest: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> str:
    """SHA-256 of everything that makes the dataset what it is, and of no place where it is stored."""
    return digest_json(
        {
            "index": Reference.parse(manifest["index"]).digest,
            "shards": [{"md5": shard["md5"], "bytes": shard["bytes"]} for shard in manifest["shards"]],
            "autoencoder": {
                "kind": autoencoder["kind"],
                "config": autoencoder["config"],
                "weights": Reference.parse(autoencoder["weights"]).digest,
            },
            "text": _without_places(manifest["text"]),
            "buckets": manifest["buckets"],
            "licence": manifest["licence"],
        }
    )


def _without_places(value: Any) -> Any:
    """Replaces every reference by its digest."""
    if isinstance(value, Mapping):
        return {name: _without_places(entry) for name, entry in value.items()}
    return Reference.parse(value).digest if isinstance(value, str) and "@sha256:" in value else value
