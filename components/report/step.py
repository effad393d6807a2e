"""The step `report`: the records of a run in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.components.report.config import ReportConfig
from zoetrope.components.report.records import load_records
from zoetrope.components.report.render import render
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.store import Store, put_content, put_json


def render_report(config: ReportConfig, records: Sequence[str], store: Store) -> str:
    """The report of a run as one HTML document; also for a run that failed half-way.

    Args:
        config: what only the run itself knows.
        records: references to `zoetrope.record.v1` records, in any order; missing steps leave their part out.
        store: where records and products lie.
    """
    return render(config, load_records(store, records, config), store)


def report(config: ReportConfig, records: Sequence[str], context: StepContext) -> StepResult:
    """Writes the report of a run from the records of its steps; missing steps leave their section out.

    Args:
        config: what only the run itself knows.
        records: references to `zoetrope.record.v1` records, in any order.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.report.v1`.
    """
    html = render_report(config, records, context.store)
    reference = put_content(context.store, html.encode("utf-8"), ".html")
    return StepResult(
        product=put_json(context.store, {"schema": "zoetrope.report.v1", "html": str(reference)}),
        key_figure=f"report of {len(records)} steps, {len(html.encode('utf-8')) / 1e6:.1f} MB",
        artifacts={"report": reference},
        page=html,
    )
