"""Settings of the step `generate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoetrope.infra.config import StrictModel, neutral
from zoetrope.model.sampling import SamplerConfig


class GenerateConfig(StrictModel):
    """Configuration of the step `generate`.

    Attributes:
        videos: number of text-to-video samples; the prompts are repeated, with other seeds, to reach it.
        prompts: what to generate; when empty, the held-out prompts of the dataset, else captions of held-out
            clips.
        control: `untrained` generates the same prompts and seeds with an untrained model of the same size.
        image_videos: number of image-to-video samples that start from the first frame of held-out clips.
        bucket: dataset bucket that gives the size, e.g. `64px_16f`; empty takes the largest.
        seed: sample i of the list is drawn with seed + i; the untrained model is initialised with `seed`.
        sampler: settings of the sampler; the defaults are the small recipe's.
        workers: processes that draw samples; the videos are the same for any number.
        threads: CPU threads of PyTorch in each; fixed so that the videos do not depend on the machine.
        contact_sheet_rows: at most this many videos are on the contact sheet.
    """

    videos: int = Field(default=96, ge=1)
    prompts: tuple[str, ...] = ()
    control: Literal["untrained", "none"] = "untrained"
    image_videos: int = Field(default=4, ge=0)
    bucket: str = ""
    seed: int = Field(default=1000, ge=0)
    sampler: SamplerConfig = SamplerConfig(
        steps=20,
        text_guidance=4.0,
        image_guidance=2.0,
        oscillation_text=False,
        batch_size=16,
        batched_forwards=True,  # a small model on a CPU is faster so
    )
    workers: int = neutral(2, ge=1, le=64)
    threads: int = Field(default=1, ge=1)
    contact_sheet_rows: int = Field(default=16, ge=1)
