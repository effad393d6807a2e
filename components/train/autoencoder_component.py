"""The KFP face of the step `autoencoder`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def autoencoder(job: str, captions: str, page: dsl.Output[dsl.HTML]) -> NamedTuple(
    "Outputs", [("product", str), ("record", str)]
):
    """Trains the video autoencoder on the clips.

    Args:
        job: the step's configuration and code digest, made by `resolve`.
        captions: reference to what `caption` made.
        page: the result as HTML.

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
        page.path,
    )
