"""Units, in their order, become one dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from zoetrope.components.encode.tasks import EncodedUnit, TextParts
from zoetrope.infra.errors import ZoetropeError


@dataclass
class Merged:
    """All units together.

    Attributes:
        shards: the manifest's entries.
        rows: index rows with the statistics of each sample.
        shapes: bucket name -> [C, T, H, W] of its latents.
        unreadable: identities of clips that could not be decoded.
        text: the text encoders and the embeddings of the empty caption.
    """

    text: TextParts
    shards: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def merge_units(units: Iterable[EncodedUnit]) -> Merged:
    """Numbers the shards of all units through.

    Raises:
        ZoetropeError: no clip could be decoded, or two units embedded text differently.
    """
    merged: Merged | None = None
    for unit in units:
        merged = merged or Merged(unit.text)
        if unit.text != merged.text:
            raise ZoetropeError(
                "encode: two workers made different text embeddings of the same words",
                "their machines or their library versions differ; use one kind of node and one image",
            )
        first = len(merged.shards)
        merged.rows += [{**row, "shard": row["shard"] + first} for row in unit.rows]
        for number, shard in enumerate(unit.shards, first):
            merged.shards.append({"path": f"shards/{number:05d}.safetensors", **asdict(shard)})
        merged.shapes |= unit.shapes
        merged.unreadable += unit.unreadable
    if merged is None or not merged.rows:
        raise ZoetropeError(
            f"encode: none of {len(merged.unreadable) if merged else 0} clips could be decoded",
            "the source videos may have changed since they were curated: run the ingest step again",
        )
    return merged
