"""What the Kubernetes API refuses, in one line with the next step."""

from __future__ import annotations

import json
from typing import Any

import urllib3

from zoetrope.infra.errors import ZoetropeError

PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE = 401, 403, 404, 409, 410

_INSTALL = {
    "trainer.kubeflow.org": "install Kubeflow Trainer 2.3 (manifests/platform)",
    "argoproj.io": "install Kubeflow Pipelines with Argo Workflows (manifests/platform)",
    "jobset.x-k8s.io": "install JobSet (it comes with Kubeflow Trainer, manifests/platform)",
}


class AlreadyExistsError(ZoetropeError):
    """There is an object of this name already."""


class NotAllowedError(ZoetropeError):
    """We may not look at it; whether it is well is unknown."""


class ApiRefusedError(Exception):
    """The API server answered with an error.

    Args:
        status: HTTP status.
        body: the server's answer.
    """

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        self.answer: dict[str, Any] = answer if isinstance(answer, dict) else {}
        # What serves no such resource answers in plain text; a missing object comes with a Status object.
        self.message = str(self.answer.get("message") or body.strip() or "no reason given")

    @property
    def by_webhook(self) -> bool:
        """Whether an admission webhook or a quota refused the object, and not the lack of a right."""
        return "admission webhook" in self.message or "exceeded quota" in self.message

    @property
    def missing_resource(self) -> bool:
        """Whether the server does not know this kind of object at all."""
        return self.status == NOT_FOUND and not self.answer.get("details", {}).get("name")


def explain(error: Exception, what: str, path: str, host: str, retry_seconds: float) -> ZoetropeError:
    """The error for a person.

    Args:
        error: what the last try ended with.
        what: what was tried, e.g. `create trainjobs/z123`.
        path: resource path of the request.
        host: URL of the API server.
        retry_seconds: seconds that tries went on.
    """
    if isinstance(error, ApiRefusedError):
        return _refused(error, what, path, host)
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return ZoetropeError(
            f"cluster {host}: there is no host of this name",
            "check the server in the kubeconfig (`kubectl config view --minify`) and the network",
        )
    if isinstance(error, urllib3.exceptions.SSLError):
        return ZoetropeError(
            f"cluster {host}: the certificate is not accepted: {_short(error)}",
            "check certificate-authority in the kubeconfig",
        )
    return ZoetropeError(
        f"{what}: the cluster at {host} does not answer for {retry_seconds:.0f} s: {_short(error)}",
        "check that the API server runs and can be reached, then run the same command again",
        retryable=True,
    )


def _refused(error: ApiRefusedError, what: str, path: str, host: str) -> ZoetropeError:
    if error.status == UNAUTHORIZED:
        return ZoetropeError(
            f"cluster {host}: not logged in, or the token has expired",
            "log in again, so that the kubeconfig holds a fresh token",
        )
    if error.by_webhook:
        return ZoetropeError(f"{what}: refused: {error.message}", "fix what the message names")
    if error.status == FORBIDDEN:
        return ZoetropeError(
            f"{what}: not allowed: {error.message}",
            "a cluster administrator has to grant it; manifests/base holds the roles that are needed",
        )
    if error.missing_resource:
        group = path.split("/")[2] if path.startswith("/apis/") else ""
        return ZoetropeError(
            f"{what}: the cluster at {host} has no such kind of object ({group or path})",
            _INSTALL.get(group, "check the version of the cluster"),
        )
    if error.status == CONFLICT and error.answer.get("reason") == "AlreadyExists":
        return AlreadyExistsError(f"{what}: there is one of this name already", "take another name, or delete it")
    return ZoetropeError(
        f"{what}: {error.message}", "see the message", retryable=error.status in PASSING_STATUS | {CONFLICT, GONE}
    )


def _short(error: Exception) -> str:
    text = str(error.args[-1] if error.args else error)
    return text.rpartition(": ")[2][:200] if "Connection" in text else text[:200]
