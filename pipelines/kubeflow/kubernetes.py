"""The Kubernetes API for people: of the kubeconfig, in the namespace of the runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoetrope.infra.doctor import Api
from zoetrope.infra.errors import ZoetropeError


def has_kubeconfig() -> bool:
    """Whether there is a kubeconfig; people who only know the Kubeflow UI have none."""
    given = os.environ.get("KUBECONFIG", "")
    paths = given.split(os.pathsep) if given else [str(Path.home() / ".kube" / "config")]
    return bool(given) or any(Path(path).is_file() for path in paths)


def cluster(namespace: str, retry_seconds: float | None = None) -> Any:
    """`zoetrope.infra.kubernetes.api.Cluster` of the kubeconfig; raises ZoetropeError where it cannot be used.

    Args:
        namespace: of the runs.
        retry_seconds: seconds for which a server that does not answer is asked again.
    """
    from zoetrope.infra.kubernetes.api import Cluster
    from zoetrope.infra.kubernetes.transport import DEFAULT_RETRY_SECONDS

    return Cluster.connect(
        namespace=namespace, retry_seconds=DEFAULT_RETRY_SECONDS if retry_seconds is None else retry_seconds
    )


def api(namespace: str) -> Api | ZoetropeError:
    """What the checks read through, or the reason why there is none."""
    try:
        return Api(cluster(namespace).api_client)
    except ZoetropeError as error:
        return error
