"""The KFP component of the step `report`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def report(
    job: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    ingest: str = "",
    curate: str = "",
    caption: str = "",
    autoencoder: str = "",
    encode: str = "",
    stage_1: str = "",
    stage_2: str = "",
    stage_3: str = "",
    generate: str = "",
    evaluate: str = "",
    promote: str = "",
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Writes the run's one self-contained HTML report.

    Args:
        job: the step's configuration and code digest, made by `resolve`.
        page: the result as HTML.
        metrics: its numbers.
        ingest: record of that step, like the following; empty where it did not take part.
        curate: record.
        caption: record.
        autoencoder: record.
        encode: record.
        stage_1: record.
        stage_2: record.
        stage_3: record.
        generate: record.
        evaluate: record.
        promote: record.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.report.config import ReportConfig
    from zoetrope.components.report.step import report as work
    from zoetrope.infra.steps import execute_job

    steps = {
        "ingest": ingest,
        "curate": curate,
        "caption": caption,
        "autoencoder": autoencoder,
        "encode": encode,
        "stage_1": stage_1,
        "stage_2": stage_2,
        "stage_3": stage_3,
        "generate": generate,
        "evaluate": evaluate,
        "promote": promote,
    }
    records = {name: record for name, record in steps.items() if record}

    def run(config, context):
        return work(ReportConfig.model_validate(config), list(records.values()), context)

    return execute_job(job, run, {**records}, page, metrics)
