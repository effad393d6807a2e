"""How clips get their text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoetrope.infra.config import StrictModel, neutral


class CaptionConfig(StrictModel):
    """Settings of the step `caption`.

    Attributes:
        workers: processes, on a cluster pods; the result is the same for any number.
        suffix: `fps_motion` appends ` {F} FPS, {M} motion score.` as Open-Sora 2.0's loader does, `none` nothing.
        fps_max: highest frame rate of training; F is the source's rate divided down to it.
        held_out_fraction: share of the clips that no training sees, chosen by their id.
    """

    workers: int = neutral(1, ge=1, le=1000)
    suffix: Literal["none", "fps_motion"] = "none"
    fps_max: int = Field(24, ge=1)
    held_out_fraction: float = Field(0.05, ge=0, lt=1)
