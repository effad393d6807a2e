"""Compiles the pipelines to YAML: one file per pipeline and recipe, the same bytes every time."""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.step_table import PIPELINES

COMPILED = Path(__file__).parent / "compiled"


def compile_pipeline(pipeline: str, recipe: str, path: Path) -> None:
    """Writes the KFP YAML of one pipeline and recipe to `path`."""
    from kfp import compiler

    from zoetrope.pipelines.definitions import build

    compiler.Compiler().compile(build(pipeline, recipe), package_path=str(path))


def compile_all(recipes: list[str], directory: Path = COMPILED) -> list[Path]:
    """Writes every pipeline of every recipe; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for recipe in recipes:
        for pipeline in PIPELINES:
            path = directory / f"{recipe}-{pipeline}.yaml"
            compile_pipeline(pipeline, recipe, path)
            written.append(path)
    return written


def check_all(recipes: list[str], directory: Path = COMPILED) -> None:
    """Raises ZoetropeError with the first difference when a committed file is not what compiles now."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = {path.name: path.read_text(encoding="utf-8") for path in compile_all(recipes, Path(scratch))}
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
        raise ZoetropeError(f"{directory.name}/{name} {detail}"[:400], "run `zoetrope compile` and commit the files")
