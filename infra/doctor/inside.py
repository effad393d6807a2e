"""A short-lived pod with the steps' own image, account and settings: what it reaches, the steps reach."""

from __future__ import annotations

import json
import secrets as random
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from zoetrope.infra.doctor.findings import CheckContext, Finding, ok, problem, unknown
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.errors import NotAllowedError
from zoetrope.infra.kubernetes.raw import Api
from zoetrope.infra.settings import Settings

TIMEOUT_SECONDS = 120
POLL_SECONDS = 2.0
IMAGE = "core"
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


def inside(context: CheckContext) -> Iterator[Finding]:
    """Runs `zoetrope doctor --from-inside` in a pod, hands on what it finds, and removes the pod."""
    image = context.images.get(IMAGE, "")
    if not image:
        yield unknown("inside", f"no {IMAGE} in images.lock: no pod was started")
        return
    api, name = context.kubernetes, f"zoetrope-doctor-{random.token_hex(3)}"
    path = f"/api/v1/namespaces/{context.namespace}/pods"
    try:
        api.post(path, pod(name, context.namespace, image, context.service_account))
    except NotAllowedError:
        yield unknown("inside", f"no right to create a pod in {context.namespace}: not looked at")
        return
    except ZoetropeError as error:
        yield problem("inside", f"the pod was refused: {error.headline}", "see the quotas and Pod Security above")
        return
    try:
        yield from _follow(api, f"{path}/{name}")
    finally:
        api.delete(f"{path}/{name}")


def pod(name: str, namespace: str, image: str, service_account: str) -> dict[str, Any]:
    """The pod; meets Pod Security `restricted` and uses what the steps use."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {  # of a step, so that the network policies of steps hold for it
                "app.kubernetes.io/part-of": "zoetrope",
                "app.kubernetes.io/component": "step",
                "app.kubernetes.io/managed-by": "zoetrope",
            },
        },
        "spec": {
            "serviceAccountName": service_account,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": TIMEOUT_SECONDS,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [
                {
                    "name": "doctor",
                    "image": image,
                    "command": ["zoetrope", "doctor", "--from-inside", "--json"],
                    "envFrom": [
                        {"configMapRef": {"name": "zoetrope-settings", "optional": True}},
                        {"secretRef": {"name": "zoetrope-store", "optional": True}},
                    ],
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                        "limits": {"cpu": "500m", "memory": "512Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a volume of the pod's own
                }
            ],
        },
    }


def _follow(api: Api, path: str) -> Iterator[Finding]:
    for _ in range(int(TIMEOUT_SECONDS / POLL_SECONDS)):
        status = (api.get(path) or {}).get("status", {})
        waiting = [each.get("state", {}).get("waiting", {}) for each in status.get("containerStatuses", [])]
        stuck = [each for each in waiting if each.get("reason") in _PULL]
        if stuck:
            message = " ".join(str(stuck[0].get("message", "")).split())[:200]
            yield problem(
                "inside", f"the image cannot be pulled: {message}", "are the nodes allowed to pull from the registry?"
            )
            return
        if status.get("phase") in ("Succeeded", "Failed"):
            yield from _read(api.text(f"{path}/log"))
            return
        time.sleep(POLL_SECONDS)
    conditions = [each for each in status.get("conditions", []) if each.get("status") == "False"]
    why = f": {conditions[0].get('message')}" if conditions and conditions[0].get("message") else ""
    yield problem("inside", f"the pod did not end within {TIMEOUT_SECONDS} s{why}", "look at the nodes and quotas")


def _read(log: str) -> Iterator[Finding]:
    """Findings are the log's last JSON list; anything before it is a warning of some library."""
    start = log.find("[\n")
    try:
        found = json.loads(log[start:]) if start >= 0 else None
    except ValueError:
        found = None
    if not isinstance(found, list):
        lines = [line.strip("│ ") for line in log.splitlines() if any(map(str.isalpha, line))]
        last = (lines or ["nothing"])[-1][:200]
        yield problem("inside", f"the pod said: {last}", "is the image of the same version as this command?")
        return
    for each in found:
        yield Finding(f"inside: {each['check']}", each["status"], each["detail"], each.get("hint", ""))


def from_inside(settings: Settings) -> Iterator[Finding]:
    """What a pod looks at: store, MLflow and dataset remote as the steps reach them."""
    yield _store(settings)
    yield _mlflow(settings)
    if settings.dataset_remote:
        yield _remote(settings)


def _store(settings: Settings) -> Finding:
    if not settings.store:
        return problem("store", "ZOETROPE_STORE is not set", "set it in the configmap zoetrope-settings")
    from zoetrope.infra.store import open_store

    try:
        store = open_store(settings.store)
        uri = store.put_bytes(f"doctor/{random.token_hex(8)}", b"probe")
        try:
            right = store.read(uri) == b"probe"
        finally:
            store.delete(uri)
    except ZoetropeError as error:
        return problem("store", error.headline, error.hint or "check endpoint and secret zoetrope-store")
    if not right:
        return problem(
            "store", f"{settings.store} returned other bytes than were written", "is a cache in front of it?"
        )
    return ok("store", f"{settings.store}: written, read, removed")


def _mlflow(settings: Settings) -> Finding:
    uri = settings.tracking_uri
    if not uri.startswith(("http://", "https://")):
        return problem("mlflow", "ZOETROPE_TRACKING_URI is not set", "set it in the configmap zoetrope-settings")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=20) as answer:  # noqa: S310 - checked above
            status = answer.status
    except OSError as error:
        return problem("mlflow", f"{uri} does not answer: {error}", "is zoetrope-mlflow running; do policies allow it?")
    return ok("mlflow", f"{uri} answers") if status == 200 else problem("mlflow", f"{uri}: {status}", "see its log")


def _remote(settings: Settings) -> Finding:
    from zoetrope.infra.datasets import RemoteRegistry

    try:
        versions = RemoteRegistry(settings.dataset_remote).versions()
    except ZoetropeError as error:
        return problem("dataset remote", error.headline, error.hint)
    return ok("dataset remote", f"{len(versions)} versions")
