"""The KFP component of the step `caption`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def caption(
    job: str, clips: str, sources: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Gives every clip its caption and its split.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        clips: reference to what `curate` made.
        sources: reference to what `ingest` made.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.caption.config import CaptionConfig
    from zoetrope.components.caption.step import caption as work
    from zoetrope.infra.steps import execute_job

    inputs = {"clips": clips, "sources": sources}
    return execute_job(
        job,
        lambda config, context: work(CaptionConfig.model_validate(config), clips, sources, context),
        inputs,
        page,
        metrics,
    )
