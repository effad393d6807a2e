"""The KFP face of the step `train_stage`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def train_stage(job: str, dataset: str, parent: str, page: dsl.Output[dsl.HTML]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Trains one stage of the video model.

    Args:
        job: the step's configuration and code digest, made by `resolve`.
        dataset: reference to a dataset version.
        parent: reference to the checkpoint to start from; empty starts anew.
        page: the result as HTML.

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
        page.path,
    )
