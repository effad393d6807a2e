"""The KFP component of the step `generate`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def generate(job: str, checkpoint: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Generates videos for held-out prompts.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        checkpoint: reference to a checkpoint.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.generate.config import GenerateConfig
    from zoetrope.components.generate.step import generate as work
    from zoetrope.infra.steps import execute_job

    inputs = {"checkpoint": checkpoint}
    return execute_job(
        job,
        lambda config, context: work(GenerateConfig.model_validate(config), checkpoint, context),
        inputs,
        page,
        metrics,
    )
