"""Compiles the pipelines to YAML: one file per pipeline and recipe, the same bytes every time."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.components.images import CORE, EVALUATE, TRAIN
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import canonical_json
from zoetrope.pipelines.definition.step_table import PIPELINES

if TYPE_CHECKING:
    from zoetrope.infra.images.lock import ImagesLock
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.recipe.recipe import Recipe

COMPILED = Path(__file__).parents[1] / "compiled"
"""Golden YAML: what runs on this machine, and below `cluster/` the same for a cluster with made-up digests."""


def compile_pipeline(pipeline: str, resolved: Resolved, path: Path) -> None:
    """Writes the KFP YAML of one pipeline and recipe to `path`."""
    from kfp import compiler

    from zoetrope.pipelines.definition.definitions import build

    compiler.Compiler().compile(build(pipeline, resolved.name), package_path=str(path))


def compile_cluster(pipeline: str, resolved: Resolved, images: ImagesLock, path: Path, commit: str = "") -> None:
    """Writes the YAML of one pipeline and recipe for a cluster: with digests, resources, secrets by name, retries.

    Args:
        pipeline: name of the pipeline.
        resolved: the recipe; a file is written into the YAML, without overrides. These decide resources and pods here
            and now; what they change in the recipe itself has to be given to the run as well.
        images: `images.lock`.
        path: the file to write.
        commit: of the code.

    Raises:
        ZoetropeError: an image is not in the lock, or the recipe does not fit.
    """
    from kfp import compiler

    from zoetrope.pipelines.definition.definitions import OnCluster, build
    from zoetrope.pipelines.definition.pod_spec import ClusterTasks
    from zoetrope.pipelines.definition.user_files import refuse_own_paths

    _require_shared_source(resolved.plain)
    refuse_own_paths(resolved.plain, resolved.recipe)
    needed = {name: images.image(name) for name in (CORE, TRAIN, EVALUATE)}
    tasks = ClusterTasks(resolved, needed, commit)
    cluster = OnCluster(resolved.named, canonical_json(needed).decode(), tasks.place)
    compiler.Compiler().compile(build(pipeline, resolved.plain.name, cluster), package_path=str(path))


def _require_shared_source(recipe: Recipe) -> None:
    if recipe.source.folder:
        raise ZoetropeError(
            f"source.folder: pods do not see the folder {recipe.source.folder}",
            "put the videos and a catalogue into S3 and use source.s3",
        )


Compile = Callable[[str, "Resolved", Path], None]
"""`compile(pipeline, resolved, path)`."""


def for_cluster(images: ImagesLock, commit: str = "") -> Compile:
    """`compile_cluster` with everything but pipeline, recipe and path."""

    def compile_one(pipeline: str, resolved: Resolved, path: Path) -> None:
        compile_cluster(pipeline, resolved, images, path, commit)

    return compile_one


def compile_all(
    recipes: Sequence[Resolved], directory: Path = COMPILED, compile_one: Compile = compile_pipeline
) -> list[Path]:
    """Writes every pipeline of every recipe; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for recipe in recipes:
        for pipeline in PIPELINES:
            path = directory / f"{Path(recipe.name).stem}-{pipeline}.yaml"
            compile_one(pipeline, recipe, path)
            written.append(path)
    return written


def check_all(recipes: Sequence[Resolved], directory: Path = COMPILED, compile_one: Compile = compile_pipeline) -> None:
    """Raises ZoetropeError with the first difference when a committed file is not what compiles now."""
    with tempfile.TemporaryDirectory() as scratch:
        files = compile_all(recipes, Path(scratch), compile_one)
        fresh = {path.name: path.read_text(encoding="utf-8") for path in files}
    committed = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.yaml")}
    for name in sorted(fresh.keys() | committed.keys()):
        old, new = committed.get(name), fresh.get(name)
        if old == new:
            continue
        if old is None or new is None:
            detail = "is missing" if old is None else "belongs to no pipeline"
        else:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "committed", "compiled", lineterm="", n=0)
            detail = "differs: " + " | ".join(list(lines)[2:6])
        raise ZoetropeError(f"{directory.name}/{name} {detail}"[:400], "run `make golden` and commit the files")
