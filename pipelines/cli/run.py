"""`zoetrope run`, `compile` and `config`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.runs import RunRecord
from zoetrope.pipelines.cli.common import (
    DEFAULT_STORE,
    ExplainOption,
    FreshOption,
    JsonOption,
    SetOption,
    StoreOption,
    errors,
    output,
    show,
    state_paths,
    state_store,
)
from zoetrope.pipelines.definition.step_table import PIPELINES, makers


class Target(StrEnum):
    """What the YAML is for."""

    local = "local"
    cluster = "cluster"


config_app = typer.Typer(help="Recipes: show the resolved truth.", no_args_is_help=True)


def run(
    recipe: Annotated[str, typer.Argument(help="name of a recipe, or a .yaml file")],
    input_folder: Annotated[
        Path | None,
        typer.Option("--input", metavar="DIR", help="your own folder of videos instead of the recipe's source"),
    ] = None,
    licence: Annotated[str, typer.Option(help="licence of --input, e.g. CC-BY-4.0")] = "",
    rights: Annotated[str, typer.Option(help="who may train on --input, and where that is written down")] = "",
    dataset: Annotated[
        str,
        typer.Option("--dataset", metavar="TAG", help="start from a dataset version: a tag, a revision or `latest`"),
    ] = "",
    pipeline: Annotated[str, typer.Option(help=f"one of {', '.join(PIPELINES)}")] = "full",
    overrides: SetOption = None,
    explain: ExplainOption = False,
    fresh: FreshOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe on this machine: raw video to promoted model.

    A step whose result is known takes it, so the same command continues after an interruption.

    Example: zoetrope run nano --set stages.stage_3.steps=200
    """
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.definition.user_files import user_files
    from zoetrope.pipelines.local.supervisor import run as supervise

    changes = list(overrides or [])
    if input_folder is not None:
        changes.append(f"source={json.dumps(_source(input_folder, licence, rights))}")
    elif licence or rights:
        raise ZoetropeError("--licence and --rights describe --input DIR", "add --input DIR")
    resolved = Resolved.read(recipe, changes).recipe
    user_files(resolved)  # what is not there is said now
    arguments = {"recipe": _absolute(recipe), "overrides": "\n".join(changes)}
    if dataset:
        if input_folder is not None or pipeline not in ("full", "train"):
            raise ZoetropeError("--dataset starts from a dataset version", "leave out --input and --pipeline")
        from zoetrope.infra.datasets import DatasetRegistry

        pipeline = "train"
        registry = DatasetRegistry(state_paths(store).datasets, state_store(store))
        arguments["dataset"] = registry.resolve(dataset).reference
    elif pipeline == "train":
        raise ZoetropeError("the pipeline train starts from a dataset version", "add --dataset TAG")
    elif pipeline == "evaluate":
        raise ZoetropeError("the pipeline evaluate runs after a training", "use --pipeline full or --dataset TAG")
    if explain:
        from zoetrope.pipelines.cli.explain import print_explanation

        given = {makers("dataset")[-1]: arguments["dataset"]} if dataset else {}
        print_explanation(resolved, pipeline, given, state_store(store), fresh=fresh, as_json=as_json)
        return
    code, record = supervise(resolved, _absolute(recipe), pipeline, arguments, store, errors, fresh=fresh)
    if record:
        print_summary(record, state_paths(store).run(record.run_id), as_json)
    raise typer.Exit(code)


def _absolute(recipe: str) -> str:
    """Steps run elsewhere, so a file is named by its whole path."""
    return str(Path(recipe).resolve()) if recipe.endswith((".yaml", ".yml")) else recipe


def _source(folder: Path, licence: str, rights: str) -> dict[str, str]:
    if not folder.is_dir():
        raise ZoetropeError(f"--input {folder}: no such folder", "give a folder of videos")
    return {
        "folder": str(folder.resolve()),
        "licence": licence or "unknown",
        "rights": rights or "unknown",
    }


def print_summary(record: RunRecord, directory: Path, as_json: bool) -> None:
    """The table of a run that has ended, and where its report lies."""
    if as_json:
        typer.echo(json.dumps(record.as_json(), indent=1))
        return
    rows = [
        {
            "step": step,
            "seconds": f"{each.seconds:.1f}" if each.status == "succeeded" else each.status,
            "USD": f"{each.cost_usd:.6f}" if each.cost_usd else "0",
            "key figure": each.key_figure or each.message.partition("\n")[0],
        }
        for step, each in record.steps.items()
    ]
    show(rows, False, title=f"run {record.run_id}", right=("seconds", "USD"))
    lines = [f"dataset   {record.dataset.tag}  digest {record.dataset.digest}"] if record.dataset else []
    lines.append(f"cost      {record.cost_usd:.6f} USD")
    if record.peak_memory_bytes:
        lines.append(f"memory    {record.peak_memory_bytes / 1e9:.2f} GB at most, all processes")
    lines.append(f"MLflow    mlflow ui --backend-store-uri {record.mlflow.tracking_uri}")
    lines += [f"report    {directory / 'report.html'}"] if (directory / "report.html").is_file() else []
    for line in lines:
        output.print(line, highlight=False, markup=False, soft_wrap=True)


def compile_pipelines(
    recipe: Annotated[list[str] | None, typer.Argument(help="recipes; all of them when left out")] = None,
    target: Annotated[Target, typer.Option(help="local: for kfp.local; cluster: for the Kubeflow UI")] = Target.local,
    images: Annotated[Path, typer.Option(help="digests of the images, for a cluster")] = Path("images.lock"),
    out: Annotated[Path | None, typer.Option(help="folder to write to")] = None,
    commit: Annotated[str | None, typer.Option(help="of the code; found out when left out")] = None,
    overrides: SetOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; fail where the committed YAML differs")
    ] = False,
) -> None:
    """Compile the pipelines to YAML, one file per pipeline and recipe.

    With --target cluster it is what you upload in the Kubeflow UI. Overrides decide resources and numbers of pods in
    it; what they change of the recipe itself goes into the form, under `overrides`.

    Example: zoetrope compile nano --target cluster --out compiled
    """
    from zoetrope.pipelines.definition.compile import (
        COMPILED,
        Compile,
        check_all,
        compile_all,
        compile_pipeline,
        for_cluster,
    )
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.local.plan import code_commit
    from zoetrope.pipelines.recipe.files import recipe_names

    changes = list(overrides or [])
    resolved = [Resolved.read(name, changes) for name in recipe or recipe_names()]
    compile_one: Compile = compile_pipeline
    folder = out or COMPILED
    if target is Target.cluster:
        from zoetrope.infra.images.lock import read_images

        known = code_commit() if commit is None else commit
        compile_one, folder = for_cluster(read_images(images), known), out or Path("compiled")
    elif changes:
        raise ZoetropeError("--set belongs to --target cluster", "a local run takes it itself: zoetrope run --set ...")
    if check:
        check_all(resolved, folder, compile_one)
        output.print("the compiled pipelines are up to date")
        return
    for path in compile_all(resolved, folder, compile_one):
        output.print(str(path), soft_wrap=True, highlight=False)


@config_app.command("show")
def config_show(
    recipe: Annotated[str, typer.Argument(help="name of a recipe, or a .yaml file")],
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe with every default, stage and override resolved.

    Example: zoetrope config show nano
    """
    from zoetrope.pipelines.recipe.recipe import load_recipe

    values = load_recipe(recipe, list(overrides or [])).model_dump(mode="json")
    typer.echo(json.dumps(values, indent=1) if as_json else yaml.safe_dump(values, sort_keys=False).rstrip())
