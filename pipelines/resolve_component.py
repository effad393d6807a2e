"""The KFP face of `resolve`, the uncached first task of every pipeline."""

from typing import NamedTuple

from kfp import dsl

from zoetrope.components.images import CORE


# KFP reads the annotation from this file, so the names stand here again; a test compares them with the step table.
@dsl.component(base_image=CORE, install_kfp_package=False)
def resolve(recipe: str, overrides: str) -> NamedTuple(
    "Outputs",
    [
        ("ingest", str), ("curate", str), ("caption", str), ("autoencoder", str), ("encode", str),
        ("stage_1", str), ("stage_2", str), ("stage_3", str),
        ("generate", str), ("evaluate", str), ("promote", str), ("report", str),
    ],
):  # fmt: skip
    """Turns a recipe and its overrides into one small job per step, so that a change redoes only what it touches.

    Args:
        recipe: name of the recipe.
        overrides: `path=value` lines.

    Returns:
        ingest: the step's job, like all the others.
    """
    from zoetrope.infra.settings import Settings
    from zoetrope.pipelines.resolve import resolve as work

    return work(recipe, overrides, Settings())
