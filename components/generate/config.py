"""What the step `generate` can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoetrope.infra.config import StrictModel


class SamplingConfig(StrictModel):
    """How noise becomes a video (Open-Sora 2.0, section 5.2 of its paper, defaults of the small recipe).

    Attributes:
        steps: Euler steps from noise to video.
        text_guidance: scale of classifier-free guidance towards the prompt; 1 switches it off.
        image_guidance: scale of guidance towards the condition image; used by image-to-video alone.
        oscillation: every second step after `oscillation_start` runs without image guidance.
        oscillation_start: index of the first step, counted from 0, that may run without image guidance.
    """

    steps: int = Field(default=20, ge=1, le=1000)
    text_guidance: float = Field(default=4.0, ge=0.0, le=50.0)
    image_guidance: float = Field(default=2.0, ge=0.0, le=50.0)
    oscillation: bool = True
    oscillation_start: int = Field(default=10, ge=0)


class GenerateConfig(StrictModel):
    """Configuration of the step `generate`.

    Attributes:
        videos: number of text-to-video samples; the prompts are repeated, each time with another seed, to reach it.
        prompts: prompts to use; when empty, the held-out prompts of the dataset, else captions of held-out clips.
        control: `untrained` generates the same prompts with an untrained model of the same configuration and seeds.
        image_videos: number of image-to-video samples that start from the first frame of held-out clips.
        bucket: name of the dataset bucket that gives the size, e.g. `64px_16f`; empty takes the largest.
        seed: sample i of the prompt list is drawn with seed + i.
        sampling: settings of the sampler.
        batch_size: samples in one forward pass.
        threads: CPU threads of PyTorch; fixed so that the bytes of the videos do not depend on the machine.
        contact_sheet_rows: at most this many videos on the contact sheet.
    """

    videos: int = Field(default=96, ge=1)
    prompts: tuple[str, ...] = ()
    control: Literal["untrained", "none"] = "untrained"
    image_videos: int = Field(default=4, ge=0)
    bucket: str = ""
    seed: int = Field(default=1000, ge=0)
    sampling: SamplingConfig = SamplingConfig()
    batch_size: int = Field(default=16, ge=1)
    threads: int = Field(default=2, ge=1)
    contact_sheet_rows: int = Field(default=16, ge=1)
