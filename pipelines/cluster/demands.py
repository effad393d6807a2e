"""What the pods of a recipe ask for, for the checks before a run."""

from __future__ import annotations

from typing import Any

from zoetrope.infra.doctor import Demand
from zoetrope.infra.launch.placement import Placement
from zoetrope.pipelines.recipe import Recipe
from zoetrope.pipelines.step_table import PIPELINES


def demands(recipe: Recipe, pipeline: str = "full") -> list[Demand]:
    """One entry a step: its job where it launches one, else its own pod."""
    placements: dict[str, Any] = getattr(recipe, "placements", None) or {}
    found = []
    for step in PIPELINES[pipeline]:
        if step in placements:
            given = placements[step]
            place = given if isinstance(given, Placement) else Placement.model_validate(given)
            found.append(
                Demand(
                    step, place.nodes, place.cpu_request or place.cpu, place.memory_gb,
                    place.gpus, place.gpu_resource, place.runtime,
                )
            )  # fmt: skip
        else:
            needs = recipe.resources[step]
            found.append(Demand(step, 1, needs.cpu, needs.memory_gb, needs.gpus))
    return found
