"""Any path of the Kubernetes API, asked once, for checks that must say what is wrong instead of waiting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import urllib3

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.errors import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, ApiRefusedError, NotAllowedError
from zoetrope.infra.kubernetes.transport import Transport

if TYPE_CHECKING:
    from kubernetes import client

TIMEOUT = (10.0, 30.0)


class Api(Transport):
    """The few calls that checks need.

    Args:
        api_client: configured client.
    """

    def __init__(self, api_client: client.ApiClient) -> None:
        super().__init__(api_client, namespace="")

    def get(self, path: str) -> Any | None:
        """The JSON at `path`, None where there is nothing (404)."""
        return self._once("GET", path)

    def names(self, path: str) -> set[str]:
        """Names of the objects of a list."""
        found = self.get(path) or {}
        return {str(item["metadata"]["name"]) for item in found.get("items", [])}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Creates an object and returns it."""
        return self._once("POST", path, body)

    def delete(self, path: str) -> None:
        """Deletes an object at once; nothing happens where there is none."""
        self._once("DELETE", path, {"gracePeriodSeconds": 0})

    def text(self, path: str) -> str:
        """Plain text at `path` (a log, a service behind the API server's proxy), empty where there is nothing."""
        return str(self._once("GET", path, plain=True) or "")

    def _once(self, method: str, path: str, body: dict[str, Any] | None = None, *, plain: bool = False) -> Any:
        try:
            answer = self._send(method, path, {}, body, TIMEOUT, accept="*/*" if plain else "application/json")
        except ApiRefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise _refused(path, error) from error
        except urllib3.exceptions.HTTPError as error:
            reason = "its certificate is not trusted" if "CERTIFICATE" in str(error) else "no answer"
            raise ZoetropeError(
                f"Kubernetes at {self.host}: {reason}", "check KUBECONFIG and `kubectl cluster-info`"
            ) from error
        return answer.data.decode("utf-8", "replace") if plain else json.loads(answer.data)


def _refused(path: str, error: ApiRefusedError) -> ZoetropeError:
    if error.status == UNAUTHORIZED:
        return ZoetropeError("Kubernetes: the login has expired (401)", "log in again, see `kubectl auth whoami`")
    message = " ".join(str(error.answer.get("message", "")).split())[:200]
    if error.status == FORBIDDEN:
        return NotAllowedError(f"no right to read {path.rpartition('/')[2]}", message)
    return ZoetropeError(
        f"Kubernetes: {message or 'refused'} ({error.status})", "try again", retryable=error.status >= 500
    )
