"""Runs one step in this process, without KFP."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.processes import RunLock, end_survivors, mark_environment
from zoetrope.pipelines.definition.resolve import resolve_jobs
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import STEPS, StepRow, load, made_by
from zoetrope.pipelines.local.plan import StatePaths, new_run_id, run_settings


def run_step(
    name: str, recipe_name: str, overrides: Sequence[str], inputs: Mapping[str, str], state: Path
) -> tuple[str, str]:
    """Runs a step and returns the references of its product and of its record.

    Args:
        name: of the step.
        recipe_name: name or file of the recipe.
        overrides: `path=value`.
        inputs: input name -> reference string; all that the step reads.
        state: the state directory.
    """
    row = STEPS[name]
    for parameter, maker in made_by(name).items():
        if parameter not in inputs:
            raise ZoetropeError(f"{name} needs --input {parameter}=FILE", f"FILE: --output of `{maker}`")
    recipe = Resolved.read(recipe_name, overrides).recipe
    state.mkdir(parents=True, exist_ok=True)
    paths = StatePaths(state)
    with RunLock(state, f"zoetrope step {name}"):
        end_survivors(state, lambda line: None)
        mark_environment(state)
        run_id = new_run_id(f"{recipe.name}-{name}")
        resources = {step: value.model_dump(mode="json") for step, value in recipe.resources.items()}
        settings = run_settings(paths, run_id, resources, recipe.prices)
        os.environ.update(settings.environment())
        paths.run(run_id).mkdir(parents=True)
        job = resolve_jobs(recipe, settings)[name].text()
        page = paths.run(run_id) / f"{name}.html"
        return _call(row, job, inputs, page)


def _call(row: StepRow, job: str, inputs: Mapping[str, str], page: Path) -> tuple[str, str]:
    """Calls the function behind the KFP component: one adapter for every way to start a step."""
    component = load(row.component)
    inputs = {"job": job, **dict.fromkeys(row.optional, ""), **inputs}
    given = inspect.signature(component.python_func).parameters
    open_ones = [each for each in given.values() if each.name not in inputs and each.default is each.empty]
    rest: dict[str, Any] = {each.name: None for each in open_ones}  # artifacts that nobody wants here
    if "page" in rest:
        rest["page"] = SimpleNamespace(path=str(page), metadata={})
    product, record = component.python_func(**inputs, **rest)
    return str(product), str(record)
