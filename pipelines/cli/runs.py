"""`zoetrope runs`: what ran here, or, with a host, on a cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.cli.cluster_options import (
    NO_LINK,
    HostOption,
    NamespaceOption,
    TokenOption,
    UiOption,
    connect,
    kubeflow_settings,
)
from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, errors, output, show, state_paths
from zoetrope.pipelines.cli.run import print_summary
from zoetrope.pipelines.local.run_files import local_runs, read_local_record

if TYPE_CHECKING:
    from zoetrope.infra.store import Store
    from zoetrope.pipelines.kubeflow.client import Kubeflow
    from zoetrope.pipelines.kubeflow.views import RunView
    from zoetrope.pipelines.kubeflow.workflow import RunSources

app = typer.Typer(
    help="Pipeline runs: of this machine (--store), or of a cluster where --host or ZOETROPE_KFP_HOST names one.",
    no_args_is_help=True,
)
RunArgument = Annotated[str, typer.Argument(help="run id")]
LocalOption = Annotated[bool, typer.Option("--local", help="this machine's runs, though ZOETROPE_KFP_HOST is set")]


def _cluster(host: str, namespace: str, token_file: Path | None, local: bool = False, ui: str = "") -> Kubeflow | None:
    """A connection where a cluster is meant, None for this machine's runs."""
    settings = kubeflow_settings(host, namespace, token_file, ui)
    if local and host:
        raise ZoetropeError("--local and --host name two places", "give one of them")
    return connect(settings) if settings.host and not local else None


def _required(host: str, namespace: str, token_file: Path | None) -> Kubeflow:
    return connect(kubeflow_settings(host, namespace, token_file))  # says so where no cluster is named


@app.command("list")
def list_runs(
    store: StoreOption = DEFAULT_STORE,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
    local: LocalOption = False,
    limit: Annotated[int, typer.Option(min=1, help="of a cluster: how many at most")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="of a cluster: other people's pipelines as well")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs of a state directory, or of a cluster, newest last.

    Example: zoetrope runs list --host http://localhost:8888
    """
    kubeflow = _cluster(host, namespace, token_file, local)
    if kubeflow is not None:
        _list_cluster(kubeflow, limit, everything, as_json)
        return
    rows = []
    for run in local_runs(state_paths(store)):
        record = run.record
        rows.append(
            {
                "run": run.plan.run_id,
                "pipeline": run.plan.pipeline,
                "status": record.status if record else "not finished",
                "USD": f"{record.cost_usd if record else 0:.6f}",
                "dataset": record.dataset.tag if record and record.dataset else "",
            }
        )
    show(rows, as_json)


def _list_cluster(kubeflow: Kubeflow, limit: int, everything: bool, as_json: bool) -> None:
    from zoetrope.pipelines.kubeflow.follow import duration
    from zoetrope.pipelines.kubeflow.runs import list_runs as read

    rows = [
        {
            "run": run.run_id,
            "name": run.name,
            "status": run.state,
            "created": f"{run.created:%Y-%m-%d %H:%M}" if run.created else "",
            "duration": duration(run.seconds),
        }
        for run in read(kubeflow, limit, everything=everything)
    ]
    show(rows, as_json, right=("duration",))


@app.command("show")
def show_run(
    run: RunArgument,
    store: StoreOption = DEFAULT_STORE,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
    ui: UiOption = "",
    local: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one run: steps, durations, attempts, cost, key figures.

    Example: zoetrope runs show nano-20261123-101500-a1b2
    """
    kubeflow = _cluster(host, namespace, token_file, local, ui)
    if kubeflow is not None:
        _show_cluster(kubeflow, run, as_json)
        return
    directory = state_paths(store).run(run)
    record = read_local_record(directory) if directory.parent == state_paths(store).runs else None
    if record is None:
        raise ZoetropeError(f"no record of run {run}", "`zoetrope runs list` shows what there is")
    print_summary(record, directory, as_json)


def _show_cluster(kubeflow: Kubeflow, run_id: str, as_json: bool) -> None:
    from zoetrope.pipelines.kubeflow.follow import duration, step_table
    from zoetrope.pipelines.kubeflow.runs import get_run

    run = get_run(kubeflow, run_id, run_sources(kubeflow))
    if as_json:
        typer.echo(json.dumps(asdict(run) | {"link": kubeflow.link(run_id)}, indent=1, default=str))
        return
    output.print(f"run      {run.run_id}  {run.name}", highlight=False, markup=False)
    output.print(step_table(run))
    output.print(f"state    {run.state} after {duration(run.seconds)}", highlight=False)
    for line in run.description.splitlines():
        output.print(f"         {line}", highlight=False, markup=False, soft_wrap=True)
    output.print(f"link     {kubeflow.link(run_id) or NO_LINK}", highlight=False, soft_wrap=True)
    if run.ended and run.state != "succeeded":
        print_outcome(run)


@app.command("logs")
def logs(
    run: RunArgument,
    step: Annotated[str, typer.Argument(help="of a cluster's run: which step; all of them when left out")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="of a cluster's step: until it ends")] = False,
    store: StoreOption = DEFAULT_STORE,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
    local: LocalOption = False,
) -> None:
    """Print the log of a run; of a cluster's run step by step, its jobs' nodes included (needs a kubeconfig).

    Example: zoetrope runs logs 1f0c7d52-... stage_1 --follow --host http://localhost:8888
    """
    kubeflow = _cluster(host, namespace, token_file, local)
    if kubeflow is not None:
        _logs_cluster(kubeflow, run, step, follow)
        return
    if step or follow:
        raise ZoetropeError("STEP and --follow are for a cluster's run", "add --host URL")
    path = state_paths(store).run(run) / "log.txt"
    if not path.is_file() or path.parent.parent != state_paths(store).runs:
        raise ZoetropeError(f"no log of run {run}", "`zoetrope runs list` shows what there is")
    typer.echo(path.read_text(encoding="utf-8", errors="replace"))


def _logs_cluster(kubeflow: Kubeflow, run_id: str, step: str, follow: bool) -> None:
    from zoetrope.pipelines.kubeflow.kubernetes import cluster
    from zoetrope.pipelines.kubeflow.logs import followed_last, read_log, step_pods
    from zoetrope.pipelines.kubeflow.runs import read_run, run_spec
    from zoetrope.pipelines.kubeflow.tasks import task_places

    places = task_places(run_spec(kubeflow, read_run(kubeflow, run_id)))
    chosen = [place for place in places if place.step == step or not step]
    if not chosen:
        raise ZoetropeError(f"run {run_id} has no step {step!r}", f"steps: {', '.join(each.step for each in places)}")
    if follow and not step:
        raise ZoetropeError("--follow follows one step", f"name it: {', '.join(each.step for each in places)}")
    nodes = cluster(kubeflow.settings.namespace)
    pods = [pod for place in chosen for pod in step_pods(nodes, run_id, place) if pod.started]
    if not pods:
        raise ZoetropeError(
            f"no pod of {step or 'the run'} is there", "it has not started, or its pods are gone: see the Kubeflow UI"
        )
    if follow:
        pods = followed_last(pods)
    for pod in pods:
        if len(pods) > 1:
            typer.echo(f"==> {pod.title} ({pod.pod}) <==")
        for line in read_log(nodes, pod, follow=follow and pod is pods[-1] and pod.running):
            typer.echo(line)


@app.command("cancel")
def cancel(
    run: RunArgument,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
) -> None:
    """Cancel a run of a cluster; its jobs are stopped, what is finished stays. (Here: Ctrl-C.)

    Example: zoetrope runs cancel 1f0c7d52-... --host http://localhost:8888
    """
    from zoetrope.pipelines.kubeflow.actions import cancel as work

    kubeflow = _required(host, namespace, token_file)
    output.print(f"run {run} is {work(kubeflow, run).state}", highlight=False)


@app.command("retry")
def retry(
    run: RunArgument,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
) -> None:
    """Run the failed steps of a cluster's run again; needs the store (ZOETROPE_STORE). (Here: the same `run` again.)

    Example: zoetrope runs retry 1f0c7d52-... --host http://localhost:8888
    """
    from zoetrope.pipelines.kubeflow.actions import retry as work

    kubeflow = _required(host, namespace, token_file)
    store = cluster_store()
    if store is None:
        raise ZoetropeError(
            "the store of the cluster is not named", "set ZOETROPE_STORE=s3://bucket/prefix and its credentials"
        )
    cleared = work(kubeflow, run, store)
    output.print(f"run {run} goes on; {cleared} verdicts removed", highlight=False)


def cluster_store() -> Store | None:
    """The store of a cluster's runs; None where the environment names none."""
    from zoetrope.infra.store import open_store

    root = Settings().store
    return open_store(root) if root else None


def run_sources(kubeflow: Kubeflow) -> RunSources:
    """The kubeconfig's cluster and the store, as far as they are there."""
    from zoetrope.pipelines.kubeflow.workflow import RunSources

    return RunSources.find(kubeflow.settings.namespace, cluster_store())


def print_outcome(run: RunView) -> int:
    """Says how a run ended; returns the exit code."""
    from zoetrope.pipelines.kubeflow.follow import duration
    from zoetrope.pipelines.kubeflow.outcome import run_outcome

    found = run_outcome(run, cluster_store())
    errors.print(f"run {run.run_id} {run.state} after {duration(run.seconds)}", highlight=False)
    for line in found.lines:
        errors.print(line, highlight=False, markup=False, soft_wrap=True)
    return found.exit_code
