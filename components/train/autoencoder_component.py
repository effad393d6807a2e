"""The KFP component of the step `autoencoder`."""

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
def autoencoder(
    job: str, captions: str, page: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics], task_config: dsl.TaskConfig
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Trains the video autoencoder on the clips.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        captions: reference to what `caption` made.
        page: the result as HTML.
        metrics: its numbers.
        task_config: what was set on this task for the pods of its job; empty outside a cluster.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.train.config import AutoencoderStepConfig
    from zoetrope.components.train.step import train_autoencoder as work
    from zoetrope.infra.steps import execute_job

    inputs = {"captions": captions}
    return execute_job(
        job,
        lambda config, context: work(AutoencoderStepConfig.model_validate(config), captions, context),
        inputs,
        page,
        metrics,
        task_config,
    )
