"""A recipe, resolved once and passed on to all that compiles, checks and submits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import Placement
from zoetrope.infra.references import canonical_json
from zoetrope.pipelines.definition.placements import placements
from zoetrope.pipelines.definition.step_table import STEPS
from zoetrope.pipelines.recipe.files import recipe_names
from zoetrope.pipelines.recipe.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Resolved:
    """One recipe.

    Attributes:
        name: its name, or the path of its file, as it was given.
        plain: the recipe without overrides.
        recipe: the recipe with them.
    """

    name: str
    plain: Recipe
    recipe: Recipe

    @classmethod
    def read(cls, name: str, overrides: Sequence[str] = ()) -> Resolved:
        """Reads a recipe by name or file, with `path=value` overrides.

        Raises:
            ZoetropeError: the recipe or an override is wrong, or it asks for GPUs that nothing would use.
        """
        plain = load_recipe(name)
        recipe = load_recipe(name, overrides) if overrides else plain
        refuse_idle_gpus(recipe)
        return cls(name, plain, recipe)

    @cached_property
    def placements(self) -> Mapping[str, Placement]:
        """Step -> where its job runs on a cluster, for the steps that launch one."""
        return placements(self.recipe)

    @property
    def named(self) -> str:
        """What a pod reads the recipe from: the name of one that comes with zoetrope, else the whole as JSON."""
        if self.name in recipe_names():
            return self.name
        return canonical_json(self.plain.model_dump(mode="json")).decode()


def refuse_idle_gpus(recipe: Recipe) -> None:
    """Refuses GPUs for steps that do not compute on them: they would be reserved, paid for and idle.

    Raises:
        ZoetropeError: with all such steps.
    """
    idle = [name for name, held in recipe.resources.items() if held.gpus and not STEPS[name].uses_gpus]
    if idle:
        raise ZoetropeError(
            f"resources: GPUs for {', '.join(idle)} would be reserved, paid for and idle: "
            "nothing there computes on GPUs yet",
            " ".join(f"--set resources.{name}.gpus=0" for name in idle),
        )
