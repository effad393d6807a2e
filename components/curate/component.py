"""The KFP component of the step `curate`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def curate(job: str, sources: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Cuts videos into shots, scores them and keeps the good ones.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        sources: reference to what `ingest` made.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.curate.config import CurateConfig
    from zoetrope.components.curate.step import curate as work
    from zoetrope.infra.steps import execute_job

    inputs = {"sources": sources}
    return execute_job(
        job,
        lambda config, context: work(CurateConfig.model_validate(config), sources, context),
        inputs,
        page,
        metrics,
    )
