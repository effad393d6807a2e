"""The step `report`: the records of a run in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.components.report.config import ReportConfig
from zoetrope.infra.steps.context import StepContext, StepResult


def report(config: ReportConfig, records: Sequence[str], context: StepContext) -> StepResult:
    """Writes the report of a run from the records of its steps; missing steps leave their section out.

    Args:
        config: what only the run itself knows.
        records: references to `zoetrope.record.v1` records, in any order.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.report.v1`.
    """
    raise NotImplementedError
