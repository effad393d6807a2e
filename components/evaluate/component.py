"""The KFP component of the step `evaluate`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import EVALUATE


@dsl.component(base_image=EVALUATE, install_kfp_package=False)
def evaluate(job: str, videos: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Scores generated videos and the held-out loss.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        videos: reference to what `generate` made.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.evaluate.config import EvaluateConfig
    from zoetrope.components.evaluate.step import evaluate as work
    from zoetrope.infra.steps import execute_job

    inputs = {"videos": videos}
    return execute_job(
        job,
        lambda config, context: work(EvaluateConfig.model_validate(config), videos, context),
        inputs,
        page,
        metrics,
    )
