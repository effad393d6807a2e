"""The index of a dataset, its digest and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.tasks import EncodedClip
from zoetrope.infra.references import Reference, digest_json

if TYPE_CHECKING:
    import pyarrow

SCHEMA = "zoetrope.dataset.v1"
INDEX_COLUMNS = ("clip_id", "bucket", "shard", "split", "caption", "t5_tokens")


def index_rows(clip: EncodedClip, shard: int, t5_tokens: int) -> list[dict[str, Any]]:
    """One row per bucket of the clip: the index columns and the statistics that the gate looks at."""
    return [
        {
            "clip_id": clip.job.clip_id,
            "bucket": bucket,
            "shard": shard,
            "split": clip.job.split,
            "caption": clip.job.caption,
            "t5_tokens": t5_tokens,
            **statistics,
        }
        for bucket, statistics in clip.statistics.items()
    ]


def index_table(rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
    """The index, sorted by bucket and clip."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    types = {"clip_id": text, "bucket": text, "shard": number, "split": text, "caption": text}
    schema = pyarrow.schema({**types, "t5_tokens": number})
    ordered = sorted(rows, key=lambda row: (row["bucket"], row["clip_id"]))
    return pyarrow.Table.from_pylist([{name: row[name] for name in INDEX_COLUMNS} for row in ordered], schema=schema)


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
