"""What the processes of the encode step send each other; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from zoetrope.components.encode.config import BucketConfig, EncodeConfig
from zoetrope.model.data.shards import RawTensor

CLIPS_PER_TEXT_JOB = 1024  # 1 GB of T5-XXL embeddings at a usual caption length of 130 tokens


@dataclass(frozen=True)
class ClipJob:
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
class SourceJob:
    """All clips of one source video: decoded in one pass.

    Attributes:
        source_id: identity of the source.
        video: URI of its bytes.
        clips: sorted by clip identity.
    """

    source_id: str
    video: str
    clips: tuple[ClipJob, ...]


@dataclass(frozen=True)
class TextJob:
    """The captions of the sources that follow, each once and sorted, and the empty one.

    They are a job of their own so that not every process has to load the text encoders.
    """

    captions: tuple[str, ...]


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker process needs; a process builds its models once for equal setups.

    Attributes:
        config: the step's configuration.
        store: root of the store.
        autoencoder: kind, configuration and tiling of the autoencoder as JSON.
        weights: local path of its weights.
        latent_mean: mean of the training latents per channel.
        latent_std: their standard deviation per channel.
        t5_folder: local Hugging Face folder; tiny encoders are built there.
        clip_folder: likewise.
        captions: local JSON list of the captions whose words the tiny encoders know.
        scratch: folder for videos that are not on this machine.
    """

    config: EncodeConfig
    store: str
    autoencoder: str
    weights: str
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    t5_folder: str
    clip_folder: str
    captions: str
    scratch: str


@dataclass(frozen=True)
class EncodedTexts:
    """Caption -> T5 [L, D] and CLIP [D] embeddings."""

    embeddings: Mapping[str, tuple[RawTensor, RawTensor]]


@dataclass(frozen=True)
class EncodedClip:
    """One clip, encoded.

    Attributes:
        job: the clip.
        tensors: name -> tensor, in the order of the shard.
        statistics: bucket name -> {latent_mean, latent_std, latent_finite} over all elements of the latent.
        shapes: bucket name -> [C, T, H, W] of the latent.
    """

    job: ClipJob
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


def source_jobs(config: EncodeConfig, rows: Sequence[Mapping[str, Any]]) -> Iterator[SourceJob]:
    """Groups clips by source, in the order of the shards: by source, then by clip.

    Args:
        config: gives the buckets.
        rows: rows of clips.parquet with `caption` and `split` of captions.parquet.
    """
    ordered = sorted(rows, key=lambda row: (row["source_id"], row["clip_id"]))
    pending: list[ClipJob] = []
    for number, row in enumerate(ordered):
        start, end = Fraction(row["start"]), Fraction(row["end"])
        fitting = [at for at, bucket in enumerate(config.buckets) if long_enough(bucket, start, end)]
        if fitting:
            crop = (row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"])
            pending.append(ClipJob(row["clip_id"], start, end, crop, row["caption"], row["split"], tuple(fitting)))
        last = number + 1 == len(ordered) or ordered[number + 1]["source_id"] != row["source_id"]
        if last and pending:
            uri = row["video"].rpartition("@sha256:")[0]
            yield SourceJob(row["source_id"], uri, tuple(pending))
            pending = []


def with_texts(sources: Iterable[SourceJob]) -> Iterator[TextJob | SourceJob]:
    """Puts the captions of each group of sources before it, so that no more than a group's are held at a time."""
    group: list[SourceJob] = []
    for source in sources:
        group.append(source)
        if sum(len(each.clips) for each in group) >= CLIPS_PER_TEXT_JOB:
            yield _texts(group)
            yield from group
            group = []
    if group:
        yield _texts(group)
        yield from group


def _texts(group: Sequence[SourceJob]) -> TextJob:
    return TextJob(tuple(sorted({"", *(clip.caption for source in group for clip in source.clips)})))
