"""`zoetrope submit`: a recipe on a cluster."""

from __future__ import annotations

import getpass
import json
import re
import tempfile
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import open_store
from zoetrope.pipelines.cli.cluster_options import (
    NO_LINK,
    HostOption,
    NamespaceOption,
    TokenOption,
    UiOption,
    connect,
    kubeflow_settings,
)
from zoetrope.pipelines.cli.common import ExplainOption, FreshOption, JsonOption, SetOption, errors, output, show
from zoetrope.pipelines.definition.step_table import PIPELINES, makers

if TYPE_CHECKING:
    from zoetrope.pipelines.definition.resolved import Resolved

_SOURCE = re.compile(r"s3://[^/\s]+(/\S*)?|samples:[0-9]+")


def submit(
    recipe: Annotated[str, typer.Argument(help="name of a recipe, or a .yaml file")],
    pipeline: Annotated[str, typer.Option(help=f"one of {', '.join(PIPELINES)}")] = "full",
    overrides: SetOption = None,
    source: Annotated[
        str, typer.Option(metavar="SOURCE", help="s3://BUCKET/PREFIX with a catalogue, or samples:SEED")
    ] = "",
    dataset: Annotated[
        str, typer.Option(metavar="TAG", help="start from a dataset version: a tag, `latest` or a reference")
    ] = "",
    checkpoint: Annotated[str, typer.Option(metavar="REFERENCE", help="what the pipeline evaluate judges")] = "",
    budget: Annotated[str, typer.Option(metavar="USD", help="the most that the run may cost; else the recipe's")] = "",
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="let a green gate make the model champion")
    ] = True,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
    ui: UiOption = "",
    experiment: Annotated[str, typer.Option(help="groups runs in the UI")] = "zoetrope",
    service_account: Annotated[str, typer.Option(help="of the step pods")] = "zoetrope-runner",
    images: Annotated[Path, typer.Option("--images", metavar="FILE", help="what `make images` wrote")] = Path(
        "images.lock"
    ),
    wait: Annotated[bool, typer.Option("--wait", help="show the steps until the run ends; its exit code is ours")] = (
        False
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, create nothing")] = False,
    explain: ExplainOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe on a cluster, through Kubeflow Pipelines: the same as the compiled YAML in its UI.

    Everything is checked before anything is created. Ctrl-C while it waits leaves the run alone.

    Example: zoetrope submit nano --host http://localhost:8888 --wait
    """
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.kubeflow import submission as work
    from zoetrope.pipelines.kubeflow.preflight import preflight

    pipeline = _pipeline(pipeline, source, dataset, checkpoint)
    changes = list(overrides or [])
    if any("\n" in change for change in changes):
        raise ZoetropeError("--set: a value has several lines", "write it as one line of YAML")
    resolved = Resolved.read(recipe, [*changes, *([f"budget_usd={_budget(budget)}"] if budget else [])])
    if explain:
        _explain(recipe, changes, source, pipeline, dataset, checkpoint, fresh=fresh, as_json=as_json)
        return
    given: dict[str, Any] = {"overrides": "\n".join(changes), "promote_when_green": promote, "fresh": fresh}
    for key, value in {"source": source, "dataset": dataset, "checkpoint": checkpoint}.items():
        given |= {key: value} if value else {}
    given |= {"budget_usd": _budget(budget)} if budget else {}
    settings = kubeflow_settings(host, namespace, token_file, ui)
    with tempfile.TemporaryDirectory() as scratch:
        package = _compile(pipeline, resolved, images, Path(scratch))
        planned = work.Submission(
            package=package,
            parameters=work.arguments(package, given),
            experiment=experiment,
            run_name=f"{resolved.recipe.name.replace('_', '-')}-{pipeline} {package.version}",
            service_account=service_account,
            labels={
                "recipe": resolved.recipe.name, "pipeline": pipeline, "commit": package.commit, "submitted by": _who(),
                "source": source, "dataset": dataset, "overrides": ", ".join(changes),
            },
        )  # fmt: skip
        kubeflow = connect(settings)
        rows = work.plan(kubeflow, planned)
        for note in preflight(settings, resolved, pipeline, package.images, service_account):
            errors.print(f"not checked: {note}", highlight=False, markup=False, soft_wrap=True)
        if dry_run:
            show(rows, as_json)
            return
        run_id = work.submit(kubeflow, planned)
    link = kubeflow.link(run_id)
    if as_json:
        typer.echo(json.dumps({"run": run_id, "link": link, "version": package.version}, indent=1))
    else:
        output.print(f"run   {run_id}", highlight=False)
        output.print(f"link  {link or NO_LINK}", highlight=False, soft_wrap=True)
    if wait:
        raise typer.Exit(_wait(kubeflow, run_id))


def _explain(
    recipe: str,
    changes: list[str],
    source: str,
    pipeline: str,
    dataset: str,
    checkpoint: str,
    *,
    fresh: bool,
    as_json: bool,
) -> None:
    from zoetrope.infra.datasets import resolve_dataset
    from zoetrope.pipelines.cli.explain import print_explanation
    from zoetrope.pipelines.definition.inputs import RunInputs, resolved

    settings = Settings()
    if not settings.store:
        raise ZoetropeError(
            "--explain asks the cluster's object store what is known", "set ZOETROPE_STORE=s3://BUCKET/PREFIX"
        )
    given = {makers("dataset")[-1]: resolve_dataset(dataset, settings).reference} if dataset else {}
    given |= {makers("checkpoint")[-1]: checkpoint} if checkpoint else {}
    known = resolved(recipe, RunInputs("\n".join(changes), source))
    print_explanation(known, pipeline, given, open_store(settings.store), fresh=fresh, as_json=as_json)


def _pipeline(pipeline: str, source: str, dataset: str, checkpoint: str) -> str:
    if pipeline not in PIPELINES:
        raise ZoetropeError(f"unknown pipeline {pipeline!r}", f"pipelines: {', '.join(PIPELINES)}")
    if source and not _SOURCE.fullmatch(source):
        raise ZoetropeError(
            f"--source {source!r} is no source", "give s3://BUCKET/PREFIX or samples:SEED; pods see no local folder"
        )
    if dataset:
        if source or pipeline not in ("full", "train"):
            raise ZoetropeError("--dataset starts from a dataset version", "leave out --source and --pipeline")
        return "train"
    if pipeline == "train":
        raise ZoetropeError("the pipeline train starts from a dataset version", "add --dataset TAG")
    if source and pipeline == "evaluate":
        raise ZoetropeError("the pipeline evaluate reads no raw video", "leave out --source")
    if bool(checkpoint) != (pipeline == "evaluate"):
        raise ZoetropeError("--checkpoint belongs to the pipeline evaluate", "give both, or neither")
    return pipeline


def _budget(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(0)
    if not value.is_finite() or value <= 0:
        raise ZoetropeError(f"--budget {text!r} is not an amount of US dollars", "e.g. --budget 12.50")
    return text


def _compile(pipeline: str, resolved: Resolved, images: Path, scratch: Path) -> Any:
    from zoetrope.infra.images.lock import read_images
    from zoetrope.pipelines.definition.compile import compile_cluster
    from zoetrope.pipelines.kubeflow.submission import Package
    from zoetrope.pipelines.local.plan import code_commit

    path, commit = scratch / f"{pipeline}.yaml", code_commit()
    compile_cluster(pipeline, resolved, read_images(images), path, commit)
    return Package.read(path, commit)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user id on this machine
        return ""


def _wait(kubeflow: Any, run_id: str) -> int:
    from zoetrope.pipelines.cli.runs import print_outcome, run_sources
    from zoetrope.pipelines.kubeflow.follow import wait

    try:
        ended = wait(kubeflow, run_id, errors, run_sources(kubeflow))
    except KeyboardInterrupt:
        errors.print(f"the run goes on; `zoetrope runs cancel {run_id}` ends it", highlight=False, soft_wrap=True)
        return 130
    return print_outcome(ended)
