"""Recipes for pods, which know those by name that came with their image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.recipe_file import find_recipe, read_yaml


def by_name(recipe: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """A recipe's name and overrides that say the same as a recipe file and the given overrides.

    Raises:
        ZoetropeError: a file that extends no recipe that came with zoetrope.
    """
    if not recipe.endswith((".yaml", ".yml")):
        find_recipe(recipe)
        return recipe, list(overrides)
    values, _ = read_yaml(find_recipe(recipe))
    base = str(values.pop("extends", ""))
    if not base or base.endswith((".yaml", ".yml")):
        raise ZoetropeError(
            f"{recipe}: pods on a cluster know recipes by name only",
            "let it extend one of them, e.g. `extends: nano`, or add it to pipelines/recipes and build the images",
        )
    find_recipe(base)
    return base, [*_lines(values), *overrides]


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"
