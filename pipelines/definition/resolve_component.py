"""The KFP component of `resolve`, the uncached first task of every pipeline."""

from kfp import dsl

from zoetrope.components.images import CORE


def outputs():
    """A job for each step of the table, and the dataset version that the run starts from.

    KFP copies the text of these functions into a module of its own, where no other name of this module is known; so
    the annotation of `resolve` is made by a call, there and here.
    """
    from typing import NamedTuple

    from zoetrope.pipelines.definition.step_table import STEPS

    return NamedTuple("Outputs", [(name, str) for name in (*STEPS, "dataset_version")])


@dsl.component(base_image=CORE, install_kfp_package=False, additional_funcs=[outputs])
def resolve(
    recipe: str,
    overrides: str,
    source: str = "",
    dataset: str = "",
    budget_usd: float = 0.0,
    promote_when_green: bool = True,
    fresh: bool = False,
    pipeline: str = "",
    images: str = "",
) -> outputs():
    """Turns a recipe and what was filled in into one small job per step, so that a change redoes only what it touches.

    Args:
        recipe: name of the recipe, or a whole recipe as JSON.
        overrides: `path=value` lines.
        source: where raw video comes from; empty for the recipe's own.
        dataset: dataset version to start from: a tag, `latest` or a reference.
        budget_usd: the most that the run may cost; 0 takes the recipe's.
        promote_when_green: whether a checkpoint that passes the gate becomes champion.
        fresh: whether every step is computed anew though its result is known, on a cluster.
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
        run = ClusterInputs.read(pipeline, dataset, images, fresh)
        jobs = work(recipe, inputs, Settings(), run, dataset)
    return jobs if run else (*jobs[:-1], dataset)
