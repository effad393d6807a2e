"""Options of the commands that talk to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoetrope.infra.kubeflow import KubeflowSettings

if TYPE_CHECKING:
    from zoetrope.pipelines.kubeflow.client import Kubeflow

HostOption = Annotated[
    str, typer.Option("--host", metavar="URL", help="API server of Kubeflow Pipelines; or set ZOETROPE_KFP_HOST")
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", help="where runs live; your profile's on a multi-user Kubeflow")
]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="file with a bearer token; or set KFP_TOKEN")
]
UiOption = Annotated[
    str,
    typer.Option("--ui", metavar="URL", help="Kubeflow UI, for links, where --host has none; or ZOETROPE_KUBEFLOW_URL"),
]
NO_LINK = "none: name the Kubeflow UI by --ui URL or ZOETROPE_KUBEFLOW_URL"


def kubeflow_settings(host: str, namespace: str, token_file: Path | None, ui: str = "") -> KubeflowSettings:
    """Options above the environment."""
    given = {"host": host, "namespace": namespace, "token_file": token_file, "ui": ui}
    settings = KubeflowSettings()
    return settings.model_copy(update={name: value for name, value in given.items() if value})


def connect(settings: KubeflowSettings) -> Kubeflow:
    """A connection that answered; KFP is imported only now, which takes a second."""
    from zoetrope.pipelines.kubeflow.client import Kubeflow

    return Kubeflow(settings)
