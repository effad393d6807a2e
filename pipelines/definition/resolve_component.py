"""The KFP component of `resolve`, the uncached first task of every pipeline."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


# KFP reads the annotation from this file, so the names stand here again; a test compares them with the step table.
@dsl.component(base_image=CORE, install_kfp_package=False)
def resolve(
    recipe: str,
    overrides: str,
    source: str = "",
    dataset: str = "",
    budget_usd: float = 0.0,
    promote_when_green: bool = True,
    pipeline: str = "",
    images: str = "",
) -> NamedTuple(
    "Outputs",
    [
        ("ingest", str), ("curate", str), ("caption", str), ("autoencoder", str), ("encode", str),
        ("stage_1", str), ("stage_2", str), ("stage_3", str),
        ("generate", str), ("evaluate", str), ("promote", str), ("report", str), ("dataset_version", str),
    ],
):  # fmt: skip
    """Turns a recipe and what was filled in into one small job per step, so that a change redoes only what it touches.

    Args:
        recipe: name of the recipe, or a whole recipe as JSON.
        overrides: `path=value` lines.
        source: where raw video comes from; empty for the recipe's own.
        dataset: dataset version to start from: a tag, `latest` or a reference.
        budget_usd: the most that the run may cost; 0 takes the recipe's.
        promote_when_green: whether a checkpoint that passes the gate becomes champion.
        pipeline: name of the pipeline, on a cluster.
        images: digests of the images as JSON, on a cluster.

    Returns:
        ingest: the step's job, like all the others.
        dataset_version: reference of the dataset version to start from.
    """
    from zoetrope.infra.settings import Settings
    from zoetrope.infra.steps import task_errors
    from zoetrope.pipelines.definition.begin import ClusterInputs
    from zoetrope.pipelines.definition.inputs import RunInputs
    from zoetrope.pipelines.definition.resolve import resolve as work

    with task_errors("resolve"):
        inputs = RunInputs(overrides, source, budget_usd, promote_when_green)
        run = ClusterInputs.read(pipeline, dataset, images)
        jobs = work(recipe, inputs, Settings(), run, dataset)
    return jobs if run else (*jobs[:-1], dataset)
