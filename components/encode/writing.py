"""Shards on their way into the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoetrope.components.encode.config import MEGABYTE, EncodeConfig
from zoetrope.components.encode.manifest import index_rows
from zoetrope.components.encode.tasks import EncodedClip, ShardEntry
from zoetrope.infra.datasets.layout import shard_key
from zoetrope.infra.store import Store, put_once
from zoetrope.model.data.shards import RawTensor, Shard, ShardWriter

Embeddings = Mapping[str, tuple[RawTensor, RawTensor]]
"""Caption -> T5 [L, D] and CLIP [D] embeddings."""


class UnitWriter:
    """Writes the clips of one unit into shards, and each full shard straight into the DVC remote's layout.

    Attributes:
        shards: what was written.
        rows: index rows with the statistics of each sample.
        shapes: bucket name -> [C, T, H, W] of its latents.
    """

    def __init__(self, config: EncodeConfig, store: Store, scratch: Path) -> None:
        self._store = store
        self._writer = ShardWriter(scratch, config.shard_megabytes * MEGABYTE)
        self.shards: list[ShardEntry] = []
        self.rows: list[dict[str, Any]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, clip: EncodedClip, texts: Embeddings) -> None:
        """Adds a clip with the embeddings of its caption."""
        t5, pooled = texts[clip.job.caption]
        embedded = {f"{clip.job.clip_id}/clip": pooled, f"{clip.job.clip_id}/t5": t5}
        tensors = {**clip.tensors, **embedded}
        number, finished = self._writer.add(tensors)
        self._publish(finished)
        self.rows.extend(index_rows(clip, tensors, number))
        self.shapes.update(clip.shapes)

    def close(self) -> None:
        """Writes the last shard."""
        self._publish(self._writer.close())

    def _publish(self, shard: Shard | None) -> None:
        if shard is None:
            return
        key = shard_key(shard.md5)
        put_once(self._store, key, shard.bytes, lambda: self._store.put_file(key, shard.path))
        shard.path.unlink()
        self.shards.append(ShardEntry(shard.md5, shard.sha256, shard.bytes, shard.samples, key))
