"""Resolves a recipe, its overrides and the inputs of a run into one small job per step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoetrope.components.report.config import ReportStep
from zoetrope.components.train.perceptual import weights_file
from zoetrope.infra.config import neutral_fields
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.keys import libraries, operators
from zoetrope.infra.references import digest_bytes, digest_file, digest_json
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.job import StepJob
from zoetrope.infra.store import open_store
from zoetrope.pipelines.definition.begin import ClusterInputs, begin_cluster_run
from zoetrope.pipelines.definition.forecast import forecast
from zoetrope.pipelines.definition.inputs import RunInputs, resolved
from zoetrope.pipelines.definition.step_table import STEPS, StepRow, made_by, makers
from zoetrope.pipelines.recipe.recipe import STAGE_STEPS, Recipe, recipe_digest


def resolve_jobs(recipe: Recipe, settings: Settings) -> dict[str, StepJob]:
    """Step name -> job, without `origin`. Equal recipes, code and libraries give equal jobs, except for `report`,
    which names its run."""
    configs = step_configs(recipe) | {"report": _report_config(recipe, settings)}
    files = _user_files(recipe)
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
                    "content": content_digests(paths) | (_source_content(recipe) if name == "ingest" else {}),
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
        "tracking_uri": settings.tracking_url or settings.tracking_uri,
        "experiment": settings.experiment,
        "budget_usd": float(recipe.budget_usd),
        "steps": [step.model_dump() for step in report_steps()],
    }


def fingerprint(folder: Path) -> str:
    """Digest of a folder's listing (names, sizes, times of change): changed footage is not answered from a cache."""
    if not folder.is_dir():
        raise ZoetropeError(f"source folder {folder} does not exist or is no folder", "give --input DIR")
    lines = []
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            status = path.lstat()
            lines.append(
                f"{path.relative_to(folder)!s}\0{status.st_size}\0{status.st_mtime_ns}".encode(
                    "utf-8", "surrogateescape"
                )
            )
    return digest_bytes(b"\n".join(sorted(lines)))


def _user_files(recipe: Recipe) -> dict[str, dict[str, Path]]:
    """Step name -> key of the recipe -> file or folder of this machine that the step reads."""
    files: dict[str, dict[str, Path]] = {}
    if recipe.autoencoder.pretrained:
        files["autoencoder"] = {"autoencoder.pretrained": Path(recipe.autoencoder.pretrained)}
    elif lpips := weights_file(recipe.autoencoder.training):
        files["autoencoder"] = {"autoencoder.training.losses.perceptual.weights": lpips}
    if recipe.model.pretrained:
        files["stage_1"] = {"model.pretrained": Path(recipe.model.pretrained)}
    text = recipe.encode.text
    if text.kind == "folders":
        keys = ("t5_folder", "clip_folder")
        files["encode"] = {f"encode.text.{key}": Path(getattr(text, key)) for key in keys}
    return files


def require_user_files(recipe: Recipe) -> None:
    """Looks for what a recipe names on this machine, before a run begins.

    Raises:
        ZoetropeError: a folder of videos or a file of weights is not there.
    """
    if recipe.source.folder and not Path(recipe.source.folder).is_dir():
        raise ZoetropeError(f"source.folder: there is no folder {recipe.source.folder}", "give --input DIR")
    for paths in _user_files(recipe).values():
        _require(paths)


def _require(paths: Mapping[str, Path]) -> None:
    for key, path in paths.items():
        if not path.exists():
            raise ZoetropeError(f"{key}: there is no file or folder {path}", "give a path on this machine")


def content_digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """Key of the recipe -> digest of the names and the content of the file or folder that it names.

    Raises:
        ZoetropeError: one is not there.
    """
    _require(paths)
    digests = {}
    for key, path in paths.items():
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        digests[key] = digest_json({str(file.relative_to(root)): digest_file(file) for file in files})
    return digests


def _source_content(recipe: Recipe) -> dict[str, str]:
    """What ingest will find; sample footage is described by its configuration alone."""
    source = recipe.source
    if source.folder:
        return {"source.folder": fingerprint(Path(source.folder))}
    if source.s3:
        store = open_store(source.s3)
        names = sorted(uri.removeprefix(store.root) for uri in store.list(""))
        catalogues = [name for name in names if name.strip("/").startswith("catalogue.")]
        return {"source.s3": digest_json([names, [digest_bytes(store.read(store.root + name)) for name in catalogues]])}
    return {}


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
