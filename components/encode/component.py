"""The KFP component of the step `encode`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def encode(
    job: str,
    captions: str,
    autoencoder: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    version: dsl.Output[dsl.Dataset],
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Encodes clips and captions into the shards of a dataset version.

    Args:
        job: the step as it was resolved: configuration and key, made by `resolve`.
        captions: reference to what `caption` made.
        autoencoder: reference to what `autoencoder` made.
        page: the result as HTML.
        metrics: its numbers.
        version: the manifest and the files that `zoetrope data adopt` commits.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.encode.config import EncodeConfig
    from zoetrope.components.encode.step import encode as work
    from zoetrope.infra.steps import execute_job

    inputs = {"captions": captions, "autoencoder": autoencoder}
    return execute_job(
        job,
        lambda config, context: work(EncodeConfig.model_validate(config), captions, autoencoder, context),
        inputs,
        page,
        metrics,
        files=version,
    )
