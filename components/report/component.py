"""The KFP component of the step `report`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def report(
    job: str,
    records: dict[str, str],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Writes the run's one self-contained HTML report.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        records: step -> reference of its record, of all steps before in this run.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.report.config import ReportConfig
    from zoetrope.components.report.step import report as work
    from zoetrope.infra.steps import execute_job

    def run(config, context):
        return work(ReportConfig.model_validate(config), list(records.values()), context)

    return execute_job(job, run, records, page, metrics)
