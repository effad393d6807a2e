"""`zoetrope step`: one step by hand, as dvc.yaml does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cli.common import DEFAULT_STORE, SetOption, StoreOption, errors
from zoetrope.pipelines.definition.step_table import STEPS

BY_HAND = tuple(name for name, row in STEPS.items() if not row.reads_records)
"""Steps that make sense outside a run."""


def step(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(BY_HAND)}")],
    recipe: Annotated[str, typer.Option(help="name of a recipe, or a .yaml file")] = "nano",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE", help="output file of an earlier step; repeated"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="where the references go, as JSON; standard output without")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="YAML mapping of recipe paths to values")] = None,
    overrides: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Run one step by hand, without KFP: the same function, the same store.

    Example: zoetrope step curate --recipe nano --input sources=data/ingest.json --output data/curate.json
    """
    from zoetrope.pipelines.local.one_step import run_step

    if name not in BY_HAND:
        problem = "is part of a run alone" if name in STEPS else "is unknown"
        raise ZoetropeError(f"step {name!r} {problem}", f"steps: {', '.join(BY_HAND)}")
    changes = [*_parameters(params), *(overrides or [])]
    given: dict[str, str] = {}
    for text in inputs or []:
        key, equals, value = text.partition("=")
        if not equals or key not in STEPS[name].inputs:
            raise ZoetropeError(
                f"--input {text!r}", f"{name} reads {', '.join(STEPS[name].inputs) or 'nothing'}; NAME=FILE"
            )
        given[key] = _product(key, Path(value))
    product, record = run_step(name, recipe, changes, given, store.resolve())
    # not the record, which differs each time: dvc would redo all that follows a step with the same result
    text = json.dumps({"product": product}, indent=1) + "\n"
    errors.print(f"record {record}", highlight=False, soft_wrap=True)
    if output is None:
        typer.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")


def _parameters(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ZoetropeError(f"--params {path}: {error}", "give a YAML mapping of recipe paths to values") from error
    if not isinstance(values, dict):
        raise ZoetropeError(f"--params {path}: not a mapping", "write recipe paths and values")
    return [f"{key}={json.dumps(value)}" for key, value in sorted(_flat(values).items())]


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        found |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found


def _product(name: str, path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["product"])
    except (OSError, ValueError, KeyError) as error:
        raise ZoetropeError(
            f"--input {name}={path}: no output of a step", "give the file that --output wrote"
        ) from error
