"""The units of the encode step and their results; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from zoetrope.components.encode.config import BucketConfig, EncodeConfig
from zoetrope.model.data.shards import RawTensor


@dataclass(frozen=True)
class ClipTask:
    """One clip to encode.

    Attributes:
        clip_id: its identity.
        start: first moment in seconds, exact.
        end: the moment at which it is over, exact.
        crop: x, y, width, height of the picture without black bars, in source pixels.
        caption: its text.
        split: `train` or `held_out`.
        buckets: positions, in the configuration, of the buckets that it is long enough for.
    """

    clip_id: str
    start: Fraction
    end: Fraction
    crop: tuple[int, int, int, int]
    caption: str
    split: str
    buckets: tuple[int, ...]


@dataclass(frozen=True)
class SourceTask:
    """All clips of one source video: decoded in one pass.

    Attributes:
        source_id: identity of the source.
        video: reference of its bytes.
        clips: sorted by clip identity.
    """

    source_id: str
    video: str
    clips: tuple[ClipTask, ...]


@dataclass(frozen=True)
class Setup:
    """What all units share; a process builds its models once for equal setups.

    Attributes:
        config: the step's configuration.
        autoencoder: kind, configuration and tiling of the autoencoder as JSON.
        weights: reference of its weights.
        latent_mean: mean of the training latents per channel.
        latent_std: their standard deviation per channel.
        words: reference of the JSON list of captions whose words the tiny encoders know; empty for given ones.
        t5: file of the T5 encoder's folder -> reference; empty for the tiny one, which every process builds alike.
        clip: likewise.
    """

    config: EncodeConfig
    autoencoder: str
    weights: str
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    words: str
    t5: dict[str, str]
    clip: dict[str, str]


@dataclass(frozen=True)
class EncodeUnit:
    """Some sources, whose clips become shards of their own.

    Attributes:
        setup: reference of a `Setup` as JSON.
        sources: in the order of the shards.
    """

    setup: str
    sources: tuple[SourceTask, ...]


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the store: its hashes and length in bytes, the number of clips in it, and its key."""

    md5: str
    sha256: str
    bytes: int
    samples: int
    uri: str


@dataclass(frozen=True)
class TextParts:
    """References of the text encoders' files by name, and of the embeddings of the empty caption."""

    t5: dict[str, str]
    clip: dict[str, str]
    null_t5: str
    null_clip: str


@dataclass(frozen=True)
class EncodedUnit:
    """What a unit made; all tensors are in its shards.

    Attributes:
        shards: in their order.
        rows: index rows with the statistics of each sample; `shard` counts from the first of this unit.
        shapes: bucket name -> [C, T, H, W] of its latents.
        unreadable: identities of clips that could not be decoded.
        text: equal for all units.
    """

    shards: list[ShardEntry]
    rows: list[dict[str, Any]]
    shapes: dict[str, tuple[int, ...]]
    unreadable: list[str]
    text: TextParts


@dataclass(frozen=True)
class EncodedClip:
    """One clip, encoded.

    Attributes:
        job: the clip.
        tensors: name -> tensor, in the order of the shard.
        statistics: bucket name -> {latent_mean, latent_std, latent_finite} over all elements of the latent.
        shapes: bucket name -> [C, T, H, W] of the latent.
    """

    job: ClipTask
    tensors: Mapping[str, RawTensor]
    statistics: Mapping[str, Mapping[str, float]]
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class EncodedSource:
    """The clips of one source, and the identities of those that could not be decoded."""

    clips: tuple[EncodedClip, ...]
    unreadable: tuple[str, ...]


def long_enough(bucket: BucketConfig, start: Fraction, end: Fraction) -> bool:
    """Whether the clip still shows a picture at the bucket's last frame."""
    return start + (bucket.frames - 1) / Fraction(bucket.fps).limit_denominator(1001) < end


def source_jobs(config: EncodeConfig, rows: Sequence[Mapping[str, Any]]) -> Iterator[SourceTask]:
    """Groups clips by source, in the order of the shards: by source, then by clip.

    Args:
        config: gives the buckets.
        rows: rows of clips.parquet with `caption` and `split` of captions.parquet.
    """
    ordered = sorted(rows, key=lambda row: (row["source_id"], row["clip_id"]))
    pending: list[ClipTask] = []
    for number, row in enumerate(ordered):
        start, end = Fraction(row["start"]), Fraction(row["end"])
        fitting = [at for at, bucket in enumerate(config.buckets) if long_enough(bucket, start, end)]
        if fitting:
            crop = (row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"])
            pending.append(ClipTask(row["clip_id"], start, end, crop, row["caption"], row["split"], tuple(fitting)))
        last = number + 1 == len(ordered) or ordered[number + 1]["source_id"] != row["source_id"]
        if last and pending:
            yield SourceTask(row["source_id"], row["video"], tuple(pending))
            pending = []


def encode_units(config: EncodeConfig, setup: str, sources: Iterable[SourceTask]) -> Iterator[EncodeUnit]:
    """Groups of sources with at least `clips_per_unit` clips: no more texts than theirs are held at a time."""
    group: list[SourceTask] = []
    for source in sources:
        group.append(source)
        if sum(len(each.clips) for each in group) >= config.clips_per_unit:
            yield EncodeUnit(setup, tuple(group))
            group = []
    if group:
        yield EncodeUnit(setup, tuple(group))
