"""The step: a source in, `sources.parquet` and the bytes of every usable video out."""

from __future__ import annotations

from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.infra.steps import StepContext, StepResult


def ingest(config: IngestConfig, source: SourceConfig, context: StepContext) -> StepResult:
    """Looks at every file of `source` and stores the usable ones; product `zoetrope.sources.v1`."""
    raise NotImplementedError
