"""Where video comes from and what ingest lets through."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from zoetrope.components.ingest.footage.config import FootageConfig
from zoetrope.infra.config import StrictModel, neutral


class SourceConfig(StrictModel):
    """Where raw video comes from (exactly one of `folder`, `samples`, `s3`) and on what terms.

    Attributes:
        folder: a local folder of videos with a catalogue or sidecar captions.
        samples: rendered sample footage.
        s3: a prefix in an object store, `s3://bucket/prefix`, with videos and a catalogue.
        licence: SPDX identifier or `proprietary`; travels to the dataset and the model.
        rights: who may use the videos for training and where that is written down.
    """

    folder: str = ""
    samples: FootageConfig | None = None
    s3: str = ""
    licence: str = Field(min_length=1)
    rights: str = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [bool(self.folder), self.samples is not None, bool(self.s3)]
        if sum(given) != 1:
            raise ValueError("give exactly one of folder, samples, s3")
        return self


class IngestConfig(StrictModel):
    """The raw gates; the defaults are Open-Sora 2.0's (report arXiv 2503.09642, section 2.1).

    Attributes:
        workers: processes that read and check files, on a cluster pods; the result is the same for any number.
        verify: `decode` decodes every frame, `packets` reads every packet, `header` trusts the container.
        identity: what a source is known by, and its clips with it. `bytes`: the digest of its file. `frames`: the
            digest of its decoded frames with their exact times, so that a file whose stream was put into another
            container keeps its clips (where that container keeps exact times: Matroska rounds to milliseconds). A
            recipe keeps one for ever: with the other every clip has another id and may fall on the other side of the
            held-out split.
        min_seconds: shorter videos are rejected.
        min_bits_per_pixel: bit rate / (width * height * fps) below this is rejected.
        min_fps: fewer frames a second are rejected.
        min_aspect: width / height below this is rejected.
        max_aspect: width / height above this is rejected.
        rejected_profiles: H.264 profiles of low-effort encoders.
    """

    workers: int = neutral(2, ge=1, le=1000)
    verify: Literal["decode", "packets", "header"] = "decode"
    identity: Literal["bytes", "frames"] = "bytes"
    min_seconds: float = Field(2.0, ge=0)
    min_bits_per_pixel: float = Field(0.02, ge=0)
    min_fps: float = Field(16.0, ge=0)
    min_aspect: float = Field(1 / 3, gt=0)
    max_aspect: float = Field(3.0, gt=0)
    rejected_profiles: tuple[str, ...] = ("Constrained Baseline",)

    @model_validator(mode="after")
    def _frames_are_decoded(self) -> Self:
        if self.identity == "frames" and self.verify != "decode":
            raise ValueError(f"identity: frames takes verify: decode, not {self.verify}")
        return self


class IngestStepConfig(StrictModel):
    """Configuration of the step `ingest`.

    Attributes:
        ingest: the raw gates.
        source: where video comes from.
    """

    ingest: IngestConfig
    source: SourceConfig
