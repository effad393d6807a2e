"""The step: `sources.parquet` in, `clips.parquet` and the funnel out."""

from __future__ import annotations

from zoetrope.components.curate.config import CurateConfig
from zoetrope.infra.steps import StepContext, StepResult


def curate(config: CurateConfig, sources: str, context: StepContext) -> StepResult:
    """Cuts and scores every usable source and applies the thresholds; product `zoetrope.clips.v1`."""
    raise NotImplementedError
