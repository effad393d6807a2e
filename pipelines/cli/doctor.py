"""`zoetrope doctor`: what is wrong here or on a cluster, and how to fix it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoetrope.infra.errors import EXIT_OK, EXIT_USER_ERROR, ZoetropeError
from zoetrope.pipelines.cli.cluster_options import HostOption, NamespaceOption, TokenOption, kubeflow_settings
from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, SetOption, StoreOption, output

if TYPE_CHECKING:
    from zoetrope.infra.doctor import CheckContext, Finding
    from zoetrope.infra.kubeflow import KubeflowSettings

_MARKS = {"ok": "[green]ok[/]     ", "problem": "[bold red]problem[/]", "unknown": "[yellow]unknown[/]"}


def doctor(
    recipe: Annotated[str, typer.Argument(help="with --cluster: does this recipe fit?")] = "",
    cluster: Annotated[bool, typer.Option("--cluster", help="look at a cluster (KUBECONFIG and --host)")] = False,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
    service_account: Annotated[str, typer.Option(help="of the step pods")] = "zoetrope-runner",
    images: Annotated[Path, typer.Option("--images", metavar="FILE", help="what `make images` wrote")] = Path(
        "images.lock"
    ),
    overrides: SetOption = None,
    from_inside: Annotated[bool, typer.Option("--from-inside", hidden=True)] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine, or with --cluster at a cluster, and say line by line what is wrong and how to fix it.

    With --cluster a pod is started for a few seconds, to look from the inside. Exit code 2 where there is a problem.

    Example: zoetrope doctor --cluster nano --host http://localhost:8888
    """
    from zoetrope.infra import doctor as work
    from zoetrope.infra.settings import Settings

    if recipe and not cluster:
        raise ZoetropeError(f"the recipe {recipe} is looked at with --cluster", "add --cluster")
    if from_inside:
        found: Iterable[Finding] = work.from_inside(Settings())
    elif cluster:
        settings = kubeflow_settings(host, namespace, token_file)
        found = work.examine(_check_context(settings, recipe, list(overrides or []), service_account, images))
    else:
        found = work.examine_here(store)
    raise typer.Exit(_show(found, as_json))


def _check_context(
    settings: KubeflowSettings, recipe: str, overrides: list[str], service_account: str, images: Path
) -> CheckContext:
    from zoetrope.infra.doctor import CheckContext
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.kubeflow.demands import demands
    from zoetrope.pipelines.kubeflow.kubernetes import api

    wanted = demands(Resolved.read(recipe, overrides)) if recipe else []
    return CheckContext(
        namespace=settings.namespace,
        api=api(settings.namespace),
        kubeflow=settings if settings.host else None,
        images=_images(images),
        demands=wanted,
        service_account=service_account,
    )


def _images(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from zoetrope.infra.images.lock import read_images

    return read_images(path).images


def _show(found: Iterable[Finding], as_json: bool) -> int:
    findings = []
    for finding in found:  # printed as they come: a pod from the inside takes its time
        findings.append(finding)
        if not as_json:
            output.print(f"{_MARKS[finding.status]} ", end="")
            output.print(f"{finding.check}: {finding.detail}", highlight=False, markup=False, soft_wrap=True)
            if finding.hint and finding.status != "ok":
                output.print(f"          -> {finding.hint}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    return EXIT_USER_ERROR if any(finding.status == "problem" for finding in findings) else EXIT_OK
