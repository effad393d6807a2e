"""What the pods of a recipe ask for, for the checks before a run."""

from __future__ import annotations

from collections import defaultdict

from zoetrope.infra.doctor import Demand
from zoetrope.pipelines.recipe import Recipe
from zoetrope.pipelines.step_table import PIPELINES


def demands(recipe: Recipe, pipeline: str = "full") -> list[Demand]:
    """One entry a step: its job where it launches one, else its own pod."""
    from zoetrope.pipelines.placements import placements

    jobs = placements(recipe, defaultdict(str))  # which image it is does not matter here
    found = []
    for step in PIPELINES[pipeline]:
        held = recipe.resources[step]
        place = jobs.get(step)
        if place is None:
            found.append(Demand(step, 1, held.cpu, held.memory_gb, held.gpus))
            continue
        size = place.cpu_request or place.cpu, place.memory_gb, place.gpus
        found.append(Demand(step, place.nodes, *size, gpu_resource=place.gpu_resource, runtime=place.runtime))
    return found
