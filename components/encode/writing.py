"""Shards on their way into the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.jobs import EncodedClip, EncodedSource, EncodedTexts
from zoetrope.components.encode.manifest import index_rows
from zoetrope.infra.datasets.layout import shard_key
from zoetrope.infra.steps import StepContext
from zoetrope.model.data.shards import RawTensor, Shard, ShardWriter

_MEGABYTE = 1_000_000


class DatasetWriter:
    """Writes encoded clips into shards and each full shard straight into the DVC remote's layout.

    Attributes:
        shards: the manifest's entries.
        rows: index rows with the statistics of each sample.
        shapes: bucket name -> [C, T, H, W] of its latents.
        unreadable: identities of clips that could not be decoded.
        null: T5 and CLIP embeddings of the empty caption.
    """

    def __init__(self, config: EncodeConfig, context: StepContext) -> None:
        self._context = context
        self._writer = ShardWriter(context.work / "shards", config.shard_megabytes * _MEGABYTE)
        self.shards: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.unreadable: list[str] = []
        self.null: tuple[RawTensor, RawTensor]
        self._texts: Mapping[str, tuple[RawTensor, RawTensor]] = {}

    def write(self, results: Iterable[EncodedSource | EncodedTexts], total: int) -> None:
        """Takes all results, texts before the clips that they belong to; `total` clips, for the progress."""
        done = 0
        for result in results:
            if isinstance(result, EncodedTexts):
                self._texts = result.embeddings
                self.null = self._texts[""]
                continue
            for clip in result.clips:
                self._add(clip)
            self.unreadable.extend(result.unreadable)
            done += len(result.clips) + len(result.unreadable)
            self._context.progress(f"{done} of {total} clips encoded", done / total)
        self._publish(self._writer.close())

    def _add(self, clip: EncodedClip) -> None:
        t5, pooled = self._texts[clip.job.caption]
        texts = {f"{clip.job.clip_id}/clip": pooled, f"{clip.job.clip_id}/t5": t5}
        number, finished = self._writer.add({**clip.tensors, **texts})
        self._publish(finished)
        self.rows.extend(index_rows(clip, number, t5_tokens=t5.shape[0]))
        self.shapes.update(clip.shapes)

    def _publish(self, shard: Shard | None) -> None:
        if shard is None:
            return
        store, key = self._context.store, shard_key(shard.md5)
        uri = store.uri(key)
        if not store.exists(uri) or store.size(uri) != shard.bytes:
            store.put_file(key, shard.path)
        shard.path.unlink()
        self.shards.append(
            {
                "path": shard.name,
                "md5": shard.md5,
                "sha256": shard.sha256,
                "bytes": shard.bytes,
                "samples": shard.samples,
                "uri": uri,
            }
        )
