"""The KFP component of the step `ingest`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def ingest(job: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Reads raw video, checks every file and lists the usable ones.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.ingest.config import IngestStepConfig
    from zoetrope.components.ingest.step import ingest as work
    from zoetrope.infra.steps import execute_job

    def run(config, context):
        known = IngestStepConfig.model_validate(config)
        return work(known.ingest, known.source, context)

    return execute_job(job, run, {}, page, metrics)
