"""Configuration of the encode step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from zoetrope.infra.config import StrictModel, neutral
from zoetrope.model.conditions import ReferenceLength, reference_frames
from zoetrope.model.text import TextMode

MEGABYTE = 1_000_000


class BucketConfig(StrictModel):
    """One shape of training sample.

    Attributes:
        height: pixels.
        width: pixels.
        frames: frames that a sample holds.
        fps: frames per second at which they are taken from the clip.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    frames: int = Field(gt=0)
    fps: float = Field(gt=0)

    @property
    def name(self) -> str:
        """`64px_16f` for a square, `192x336px_129f` (height x width) for others."""
        size = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        return f"{size}px_{self.frames}f"


class TextConfig(StrictModel):
    """Where the text encoders come from.

    Attributes:
        kind: `tiny` builds small seeded random encoders and a tokenizer from the captions; `folders` reads
            local Hugging Face folders.
        seed: of the tiny encoders' weights.
        t5_folder: local folder of a T5 encoder and its tokenizer (`folders` only).
        clip_folder: local folder of a CLIP text encoder and its tokenizer (`folders` only).
        t5_tokens: captions are cut after this many T5 tokens.
        mode: `ragged` keeps each caption's own length, `padded` fills up to `t5_tokens` and lets the padding take
            part, as Open-Sora 2.0's released weights know it. One cannot be made from the other.
    """

    kind: Literal["tiny", "folders"] = "tiny"
    seed: int = 0
    t5_folder: str = ""
    clip_folder: str = ""
    t5_tokens: int = Field(default=512, gt=0)
    mode: TextMode = "ragged"


class EncodeConfig(StrictModel):
    """What the encode step makes.

    Attributes:
        name: name of the dataset; versions are tagged `NAME-v1`, `NAME-v2`, ...
        buckets: shapes of training samples; every clip that is long enough is encoded for each of them.
        text: the text encoders.
        references: what is encoded by itself besides the first and the last frame of a clip, for video to video:
            `short` takes 32 frames of each end, `long` 64, and one more where the bucket's frames are odd. A bucket
            that is not longer than a reference does without it.
        dtype: dtype of the latents and text embeddings in the shards.
        shard_megabytes: a shard is closed before it would grow beyond this (10^6 bytes).
        batch_size: clips per pass of the autoencoder; a fixed number, because kernels are chosen by shape.
        clips_per_unit: workers take sources in groups of at least this many clips, whose texts they hold in memory
            (1,024 are 1 GB of T5-XXL embeddings at a usual caption length of 130 tokens); a shard never spans groups.
        workers: processes that decode and encode, on a cluster pods; the result does not depend on their number.
        threads: PyTorch threads of each process; a fixed number, because sums depend on it.
    """

    name: str = Field(default="nano", pattern=r"[a-z0-9][a-z0-9_]*")
    buckets: tuple[BucketConfig, ...] = (
        BucketConfig(height=48, width=48, frames=16, fps=8.0),
        BucketConfig(height=64, width=64, frames=16, fps=8.0),
    )
    text: TextConfig = TextConfig()
    references: tuple[ReferenceLength, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "float32"
    shard_megabytes: int = Field(default=512, gt=0, le=512)
    batch_size: int = Field(default=4, gt=0)
    clips_per_unit: int = Field(default=1024, gt=0)
    workers: int = neutral(2, gt=0, le=1000)
    threads: int = Field(default=1, gt=0)

    @field_validator("buckets")
    @classmethod
    def _distinct(cls, buckets: tuple[BucketConfig, ...]) -> tuple[BucketConfig, ...]:
        names = [bucket.name for bucket in buckets]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"give at least one bucket, each with its own name; got {names}")
        return buckets

    @field_validator("references")
    @classmethod
    def _ordered(cls, references: tuple[ReferenceLength, ...]) -> tuple[ReferenceLength, ...]:
        return tuple(sorted(set(references), reverse=True))

    def references_of(self, bucket: BucketConfig) -> tuple[ReferenceLength, ...]:
        """The references that are encoded for a bucket."""
        return tuple(name for name in self.references if reference_frames(name, bucket.frames) < bucket.frames)
