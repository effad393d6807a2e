"""`zoetrope runs reap`: stops what a run has left behind on the cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from zoetrope.infra.errors import EXIT_RETRYABLE
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, errors, show, state_store

NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="of the runs; that of the pod or the kubeconfig when left out")
]


def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be stopped, and stop nothing")] = False,
    namespace: NamespaceOption = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Stop training jobs whose run is over or gone, and write down what they cost.

    Example: zoetrope runs reap --dry-run
    """
    from zoetrope.infra.kubernetes.api import Cluster
    from zoetrope.infra.reaper.reaper import reap as one_pass

    cluster = Cluster.connect(namespace or Settings().namespace)
    done = one_pass(cluster, state_store(store), dry_run=dry_run)
    if as_json:
        show([asdict(action) for action in [*done.actions, *done.failures]], as_json)
    for action in [] if as_json else done.actions:
        would = "would be " if dry_run else ""
        typer.echo(f"{would}{action.action} {action.name} (run {action.run}): {action.why}")
    if not as_json and not done.actions and not done.failures:
        typer.echo("nothing to do")
    for failure in [] if as_json else done.failures:
        errors.print(f"failed: {failure.name}: {failure.why}", markup=False, highlight=False, soft_wrap=True)
    if done.failures:
        raise typer.Exit(EXIT_RETRYABLE)
