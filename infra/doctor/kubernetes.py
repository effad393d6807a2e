"""Reads the Kubernetes API by path, with its faults as one line."""

from __future__ import annotations

import json
from typing import Any

from zoetrope.infra.errors import ZoetropeError

TIMEOUT = (10.0, 30.0)
APPLY_HINT = "apply the manifests: `kubectl apply -k manifests/overlays/...`, see docs/how-to/cluster.md"


class NotAllowedError(ZoetropeError):
    """We may not look at it; whether it is well is unknown."""


class Api:
    """The few calls that checks need.

    Args:
        client: `kubernetes.client.ApiClient`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, path: str) -> Any | None:
        """The JSON at `path`, None where there is nothing (404)."""
        return self._call("GET", path, None)

    def names(self, path: str) -> set[str]:
        """Names of the objects of a list."""
        found = self.get(path) or {}
        return {str(item["metadata"]["name"]) for item in found.get("items", [])}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Creates an object and returns it."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> None:
        """Deletes an object at once; nothing happens where there is none."""
        self._call("DELETE", path, {"gracePeriodSeconds": 0})

    def text(self, path: str) -> str:
        """Plain text at `path` (a log, a service behind the API server's proxy), empty where there is nothing."""
        return str(self._call("GET", path, None, plain=True) or "")

    def _call(self, method: str, path: str, body: Any, *, plain: bool = False) -> Any:
        import urllib3
        from kubernetes.client import ApiException

        try:
            answer = self._client.call_api(
                path, method, body=body, auth_settings=["BearerToken"], _preload_content=False,
                header_params={"Accept": "*/*" if plain else "application/json", "Content-Type": "application/json"},
                _return_http_data_only=True, _request_timeout=TIMEOUT,
            )  # fmt: skip
        except ApiException as error:
            if error.status == 404:
                return None
            raise _refused(path, error.status, error.body) from error
        except urllib3.exceptions.HTTPError as error:
            host = self._client.configuration.host
            reason = "its certificate is not trusted" if "CERTIFICATE" in str(error) else "no answer"
            raise ZoetropeError(
                f"Kubernetes at {host}: {reason}", "check KUBECONFIG and `kubectl cluster-info`"
            ) from error
        return answer.data.decode("utf-8", "replace") if plain else json.loads(answer.data)


def _refused(path: str, status: int, body: Any) -> ZoetropeError:
    if status == 401:
        return ZoetropeError("Kubernetes: the login has expired (401)", "log in again, see `kubectl auth whoami`")
    try:
        message = str(json.loads(body).get("message", ""))
    except (TypeError, ValueError, AttributeError):
        message = ""
    if status == 403:
        return NotAllowedError(f"no right to read {path.rpartition('/')[2]}", " ".join(message.split())[:200])
    return ZoetropeError(
        f"Kubernetes: {' '.join(message.split())[:200] or 'refused'} ({status})", "try again", retryable=status >= 500
    )
