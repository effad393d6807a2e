"""The KFP component of the step `promote`."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def promote(
    job: str,
    checkpoint: str,
    scores: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    ingest: str = "",
    curate: str = "",
    caption: str = "",
    autoencoder: str = "",
    encode: str = "",
    stage_1: str = "",
    stage_2: str = "",
    stage_3: str = "",
    generate: str = "",
    evaluate: str = "",
) -> NamedTuple("Outputs", [("product", str), ("record", str)]):
    """Registers the checkpoint and makes it champion when every check passes.

    Args:
        job: the step's configuration and code digest, made by `resolve`.
        checkpoint: reference to a checkpoint.
        scores: reference to what `evaluate` made.
        page: the result as HTML.
        metrics: its numbers.
        ingest: record of that step, like the following; empty where it did not take part.
        curate: record.
        caption: record.
        autoencoder: record.
        encode: record.
        stage_1: record.
        stage_2: record.
        stage_3: record.
        generate: record.
        evaluate: record.

    Returns:
        product: reference to the manifest of what was made.
        record: reference to the record of this execution.
    """
    from zoetrope.components.promote.config import PromoteConfig
    from zoetrope.components.promote.step import promote as work
    from zoetrope.infra.steps import execute_job

    steps = {
        "ingest": ingest,
        "curate": curate,
        "caption": caption,
        "autoencoder": autoencoder,
        "encode": encode,
        "stage_1": stage_1,
        "stage_2": stage_2,
        "stage_3": stage_3,
        "generate": generate,
        "evaluate": evaluate,
    }
    records = {name: record for name, record in steps.items() if record}

    def run(config, context):
        return work(PromoteConfig.model_validate(config), checkpoint, scores, list(records.values()), context)

    return execute_job(job, run, {"checkpoint": checkpoint, "scores": scores, **records}, page, metrics)
