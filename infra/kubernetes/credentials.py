"""Who we are at which cluster: the pod's own service account, or a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.infra.errors import ZoetropeError

if TYPE_CHECKING:
    from kubernetes import client

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def configure(context: str = "") -> tuple[client.ApiClient, str]:
    """A client and the namespace that goes with it.

    Args:
        context: of the kubeconfig; empty takes the pod's cluster, else the current context.

    Raises:
        ZoetropeError: there is no kubeconfig, or no such context in it.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False  # the client's own retries are mute
    configuration.connection_pool_maxsize = 8
    if not context:
        try:
            config.load_incluster_config(client_configuration=configuration)
            return client.ApiClient(configuration), POD_NAMESPACE.read_text(encoding="utf-8").strip()
        except (config.ConfigException, OSError):
            pass  # not in a pod
    try:
        config.load_kube_config(context=context or None, client_configuration=configuration)
        contexts, current = config.list_kube_config_contexts()
    except config.ConfigException as error:
        what = f"context {context!r} of the kubeconfig" if context else "kubeconfig"
        raise ZoetropeError(
            f"{what}: {error}", "set KUBECONFIG, or see `kubectl config get-contexts` for the names"
        ) from error
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    return client.ApiClient(configuration), str(chosen["context"].get("namespace") or "default")
