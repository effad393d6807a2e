"""What the pods of a recipe ask for, for the checks before a run."""

from __future__ import annotations

from zoetrope.infra.doctor import Demand
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS


def demands(resolved: Resolved, pipeline: str = "full") -> list[Demand]:
    """One entry for each step that works: its job where it launches one, else its own pod.

    Steps that only launch, merge and file ask for next to nothing and are left out.
    """
    recipe, found = resolved.recipe, []
    for step in PIPELINES[pipeline]:
        held, place = recipe.resources[step], resolved.placements.get(step)
        if place is not None:
            size = place.cpu_request or place.cpu, place.memory_gb, place.gpus, place.gpu_resource
            found.append(Demand(step, place.nodes, *size, runtime=place.runtime, cpu_limit=place.cpu))
        elif STEPS[step].kind == "pod":
            size = held.cpu * recipe.cluster.cpu_request_share, held.memory_gb, held.gpus, recipe.cluster.gpu_resource
            found.append(Demand(step, 1, *size, cpu_limit=held.cpu))
    return found
