"""Captions of a batch of clips: the unit of the step's work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from zoetrope.components.caption.config import CaptionConfig
from zoetrope.infra.references import canonical_json, digest_bytes
from zoetrope.infra.workers import WorkerContext

CLIPS_PER_BATCH = 1000


@dataclass(frozen=True)
class Clip:
    """What a caption depends on; start and end are seconds as `"n/d"`."""

    clip_id: str
    source_id: str
    start: str
    end: str
    fps: float
    motion: float


@dataclass(frozen=True)
class CaptionUnit:
    """Some clips, and the captions of their sources as in sources.parquet, by source."""

    config: CaptionConfig
    clips: list[Clip]
    captions: dict[str, list[dict[str, Any]]]


def batches(
    config: CaptionConfig, clips: Sequence[Mapping[str, Any]], captions: Mapping[str, list[dict[str, Any]]]
) -> Iterator[CaptionUnit]:
    """Clips in batches, in their order.

    Args:
        config: of the step.
        clips: rows of clips.parquet.
        captions: of every usable source.
    """
    for start in range(0, len(clips), CLIPS_PER_BATCH):
        rows = clips[start : start + CLIPS_PER_BATCH]
        chosen = [Clip(*(row[name] for name in Clip.__dataclass_fields__)) for row in rows]
        needed = sorted({clip.source_id for clip in chosen})
        yield CaptionUnit(config, chosen, {source: captions.get(source, []) for source in needed})


def caption_batch(batch: CaptionUnit, worker_context: WorkerContext) -> list[dict[str, str]]:
    """Rows of captions.parquet, in the order of the clips; a clip without a caption has none."""
    rows = []
    for clip in batch.clips:
        chosen = best_caption(batch.captions[clip.source_id], Fraction(clip.start), Fraction(clip.end))
        if chosen is not None:
            rows.append(
                {
                    "clip_id": clip.clip_id,
                    "caption": chosen["text"] + suffix(clip, batch.config),
                    "caption_source": chosen["source"],
                    "attributes": canonical_json(chosen["attributes"]).decode(),
                    "split": split(clip.clip_id, batch.config.held_out_fraction),
                }
            )
    return rows


def best_caption(captions: list[dict[str, Any]], start: Fraction, end: Fraction) -> dict[str, Any] | None:
    """The caption whose span overlaps [start, end) most, None where no caption with text does.

    Of equal overlaps the more exact one (the shorter span) wins, then the earlier in the catalogue.
    """
    best: tuple[Fraction, Fraction, dict[str, Any]] | None = None
    for item in captions:
        begin = Fraction(item["start"]) if item["start"] is not None else Fraction(0)
        finish = Fraction(item["end"]) if item["end"] is not None else max(end, begin)
        overlap, length = min(end, finish) - max(start, begin), finish - begin
        if item["text"] and overlap > 0 and (best is None or (overlap, -length) > (best[0], -best[1])):
            best = (overlap, length, item)
    return best[2] if best else None


def suffix(clip: Clip, config: CaptionConfig) -> str:
    """Open-Sora 2.0's ` {F} FPS, {M} motion score.` (opensora/datasets/datasets.py), or nothing.

    F is the clip's frame rate, divided by a whole number where it is above `fps_max`; M is the rounded score.
    """
    if config.suffix == "none":
        return ""
    fps = round(clip.fps)
    fps = fps if fps <= config.fps_max else fps // math.ceil(fps / config.fps_max)
    return f" {fps} FPS, {int(clip.motion + 0.5)} motion score."


def split(clip_id: str, held_out_fraction: float) -> str:
    """`train` or `held_out`: depends on the clip alone, so a clip never changes sides when others come or go."""
    share = int(digest_bytes(f"split:{clip_id}".encode())[:12], 16) / 16**12
    return "held_out" if share < held_out_fraction else "train"
