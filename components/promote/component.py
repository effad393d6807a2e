"""The KFP component of the step `promote`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def promote(
    job: str,
    checkpoint: str,
    scores: str,
    records: dict[str, str],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Registers the checkpoint and makes it champion when every check passes.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        checkpoint: reference to a checkpoint.
        scores: reference to what `evaluate` made.
        records: step -> reference of its record, of all steps before in this run.
        page: the result as HTML.
        metrics: its numbers.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.promote.config import PromoteConfig
    from zoetrope.components.promote.step import promote as work
    from zoetrope.infra.steps import execute_job

    def run(config, context):
        made_by = [records[step] for step in sorted(records)]  # KFP keeps no order
        return work(PromoteConfig.model_validate(config), checkpoint, scores, made_by, context)

    return execute_job(job, run, {"checkpoint": checkpoint, "scores": scores, **records}, page, metrics)
