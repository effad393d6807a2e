"""The step: kept clips in, `captions.parquet` out."""

from __future__ import annotations

from zoetrope.components.caption.config import CaptionConfig
from zoetrope.infra.steps import StepContext, StepResult


def caption(config: CaptionConfig, clips: str, sources: str, context: StepContext) -> StepResult:
    """Gives every kept clip a caption and a split; product `zoetrope.captions.v1`."""
    raise NotImplementedError
