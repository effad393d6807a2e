"""Resolves a recipe, its overrides and the inputs of a run into one small job per step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoetrope.components.report.config import ReportStep
from zoetrope.infra.config import neutral_fields
from zoetrope.infra.keys import libraries, operators
from zoetrope.infra.keys.content import ContentDigests
from zoetrope.infra.redact import redacted
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.job import StepJob
from zoetrope.infra.store import open_store
from zoetrope.pipelines.definition.begin import ClusterInputs, begin_cluster_run
from zoetrope.pipelines.definition.forecast import forecast
from zoetrope.pipelines.definition.inputs import RunInputs, resolved
from zoetrope.pipelines.definition.step_table import STEPS, StepRow, made_by, makers
from zoetrope.pipelines.definition.user_files import refuse_own_paths, remote_content, user_files
from zoetrope.pipelines.recipe.recipe import STAGE_STEPS, Recipe, load_recipe, recipe_digest


def resolve_jobs(recipe: Recipe, settings: Settings) -> dict[str, StepJob]:
    """Step name -> job, without `origin`. Equal recipes, code and libraries give equal jobs, except for `report`,
    which names its run."""
    configs = step_configs(recipe) | {"report": _report_config(recipe, settings)}
    digests = ContentDigests(open_store(settings.store) if settings.store else None)
    files = user_files(recipe)
    jobs = {}
    for name, config in configs.items():
        row = STEPS[name]
        job = StepJob(step=name, config=config)
        if row.cached:
            paths = files.get(name, {})
            job = job.model_copy(
                update={
                    "neutral": (*neutral_fields(row.config_class().model_validate(config)), *map(_below, paths)),
                    "operators": operators(row.module),
                    "libraries": libraries(row.libraries),
                    "content": {key: digests.of(path) for key, path in paths.items()} | remote_content(recipe, name),
                }
            )
        jobs[name] = job
    return jobs


def _below(key: str) -> str:
    """Path of a recipe key in the configuration of its step: that of the section without the section's name."""
    return key if key.startswith("source.") else key.partition(".")[2]


def step_configs(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Step name -> its complete configuration, of every step that has a section in the recipe."""
    values = recipe.model_dump(mode="json")
    return {name: _step_config(row, values) for name, row in STEPS.items() if row.section}


def _step_config(row: StepRow, values: Mapping[str, Any]) -> dict[str, Any]:
    """The step's section of the recipe's `values`, and what a few steps need beside."""
    settings: Any = values
    for key in row.section.split("."):
        settings = settings[key]
    if row.name == "ingest":
        return {"ingest": settings, "source": values["source"]}
    if row.name in STAGE_STEPS:
        known = {"name": row.name, "stage": settings, **values["model"]}
        # A stage with one before starts from that, and reads no first weights.
        return known | ({"pretrained": ""} if "parent" in made_by(row.name) else {})
    if row.name == "promote":
        return {**settings, "budget_usd": values["budget_usd"]}
    return dict(settings)


def report_steps() -> tuple[ReportStep, ...]:
    """The steps as the report tells of them."""
    return tuple(ReportStep(name=row.name, title=row.title) for row in STEPS.values())


def _report_config(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    commit, _, dirty = settings.commit.partition("+")
    return {
        "run_id": settings.run_id,
        "recipe": recipe.name,
        "recipe_hash": recipe_digest(recipe),
        "commit": commit,
        "dirty": bool(dirty) if commit else None,
        "tracking_uri": redacted(settings.tracking_url or settings.tracking_uri),
        "experiment": settings.experiment,
        "budget_usd": float(recipe.budget_usd),
        "steps": [step.model_dump() for step in report_steps()],
    }


def resolve(
    recipe: str, inputs: RunInputs, settings: Settings, run: ClusterInputs | None = None, starts_from: str = ""
) -> tuple[str, ...]:
    """The work of the `resolve` task.

    Args:
        recipe: name of a recipe, path of a recipe file, or a whole recipe as JSON.
        inputs: what was filled in.
        settings: of the process.
        run: what a run on a cluster was given beside; None on this machine, where the command line knows it.
        starts_from: reference of the dataset version that a run on this machine starts from; empty where it makes one.

    Returns:
        StepJob strings in the order of `STEPS`, and the reference of the dataset version that the run starts from
        (empty where it makes one).
    """
    known = resolved(recipe, inputs)
    if run is not None:
        refuse_own_paths(load_recipe(recipe), known)
    jobs = resolve_jobs(known, settings)
    dataset = ""
    if run is not None:
        dataset = begin_cluster_run(known, inputs, settings, run)
    if settings.store:
        fresh = settings.fresh or (run is not None and run.fresh)
        given = {makers("dataset")[-1]: dataset or starts_from} if dataset or starts_from else {}
        found = forecast(jobs, open_store(settings.store), given, fresh=fresh)
        origins = {name: found[name].origin(settings.run_id) for name in jobs}
        jobs = {name: job.model_copy(update={"origin": origins[name]}) for name, job in jobs.items()}
    return (*(jobs[name].text() for name in STEPS), dataset)
