"""The KFP component of the step `train_stage`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


# This pod only launches a job, so it asks for nothing: what is set on the task goes to the job's pods.
@dsl.component(
    base_image=CORE,
    install_kfp_package=False,
    task_config_passthroughs=[
        dsl.TaskConfigField.RESOURCES,
        dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
        dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
        dsl.TaskConfigField.KUBERNETES_AFFINITY,
        dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
        dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_VOLUMES, apply_to_task=True),
    ],
)
def train_stage(
    job: str,
    dataset: str,
    parent: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    task_config: dsl.TaskConfig,
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Trains one stage of the video model.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        dataset: reference to a dataset version.
        parent: reference to the checkpoint to start from; empty starts from scratch.
        page: the result as HTML.
        metrics: its numbers.
        task_config: what was set on this task for the pods of its job; empty outside a cluster.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.train.config import TrainStageConfig
    from zoetrope.components.train.step import train_stage as work
    from zoetrope.infra.steps import execute_job

    inputs = {"dataset": dataset, "parent": parent}
    return execute_job(
        job,
        lambda config, context: work(TrainStageConfig.model_validate(config), dataset, parent, context),
        inputs,
        page,
        metrics,
        task_config,
    )
