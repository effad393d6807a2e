"""A small Kubernetes API: paths and the JSON that lies there; what is not there is a 404."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client

from zoetrope.infra.doctor import Api, CheckContext, Demand

NAMESPACE = "/api/v1/namespaces/runs"
RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainingruntimes"


def named(*names: str) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": name}} for name in names]}


def deployment(name: str, image: str, ready: int = 1) -> dict[str, Any]:
    containers = [{"image": image}]
    return {
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": containers}}},
        "status": {"readyReplicas": ready},
    }


def resources(*names: str) -> dict[str, Any]:
    return {"resources": [{"name": name} for name in names]}


def healthy() -> dict[str, Any]:
    """A cluster on which everything is as it should be."""
    return {
        "/version": {"gitVersion": "v1.36.3"},
        NAMESPACE: {"metadata": {"name": "runs"}},
        "/apis/trainer.kubeflow.org/v1alpha1": resources("trainjobs", "trainjobs/status", "trainingruntimes"),
        "/apis/jobset.x-k8s.io/v1alpha2": resources("jobsets"),
        "/apis/argoproj.io/v1alpha1": resources("workflows"),
        "/apis/apps/v1/deployments": {
            "items": [
                deployment("kubeflow-trainer-controller-manager", "ghcr.io/kubeflow/trainer:v2.3.0"),
                deployment("jobset-controller-manager", "registry.k8s.io/jobset/jobset:v0.12.0"),
                deployment("workflow-controller", "quay.io/argoproj/workflow-controller:v4.0.5"),
            ]
        },
        f"{NAMESPACE}/serviceaccounts/zoetrope-runner": {"metadata": {}},
        f"{NAMESPACE}/serviceaccounts/zoetrope-job": {"metadata": {}},
        f"{NAMESPACE}/configmaps/zoetrope-settings": {
            "data": {"ZOETROPE_STORE": "s3://b/p", "ZOETROPE_TRACKING_URI": "http://zoetrope-mlflow:5000"}
        },
        f"{NAMESPACE}/secrets/zoetrope-store": {
            "data": {"AWS_ACCESS_KEY_ID": "aHVudGVyMg==", "AWS_SECRET_ACCESS_KEY": "aHVudGVyMg=="}
        },
        f"{NAMESPACE}/secrets/zoetrope-mlflow": {"data": {"MLFLOW_BACKEND_STORE_URI": "aHVudGVyMg=="}},
        RUNTIMES: named("zoetrope-torch-cpu", "zoetrope-plain"),
        f"{NAMESPACE}/resourcequotas": {
            "items": [
                {
                    "metadata": {"name": "zoetrope"},
                    "spec": {"hard": {"requests.cpu": "16", "requests.memory": "64Gi"}},
                    "status": {
                        "hard": {"requests.cpu": "16", "requests.memory": "64Gi"},
                        "used": {"requests.cpu": "4"},
                    },
                }
            ]
        },
        f"{NAMESPACE}/limitranges": {"items": []},
        "/api/v1/nodes": {"items": [{"status": {"allocatable": {"cpu": "8", "memory": "32Gi"}}}]},
        f"{NAMESPACE}/services/zoetrope-mlflow:5000/proxy/health": "OK",
    }


@dataclass
class FakeKubernetes:
    """What the API server holds and how it misbehaves.

    Attributes:
        objects: path -> JSON, or a text.
        forbidden: paths that answer 403.
        denied: rights that access reviews deny, as `verb resource`.
        status: answers everything with this status instead, where it is not 0.
        pod: phases that a pod goes through, and what its log says.
        requests: method and path of all calls.
        bodies: what was posted, by path.
    """

    url: str = ""
    objects: dict[str, Any] = field(default_factory=healthy)
    forbidden: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    status: int = 0
    phases: list[dict[str, Any]] = field(default_factory=lambda: [{"phase": "Pending"}, {"phase": "Succeeded"}])
    log: str = ""
    requests: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON, or text."""
        if self.status:
            return self.status, {"message": "the reason"}
        if path in self.forbidden:
            return 403, {"message": f"User cannot read {path}"}
        if method == "POST" and path.endswith("accessreviews"):
            asked = body["spec"]["resourceAttributes"]
            name = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return 201, {"status": {"allowed": f"{asked['verb']} {name}" not in self.denied}}
        if method == "POST":
            self.bodies[path] = body
            return 201, body
        if method == "DELETE":
            return 200, {}
        if path.startswith(f"{NAMESPACE}/pods/"):
            return 200, self.log if path.endswith("/log") else {"status": self._phase()}
        return (200, self.objects[path]) if path in self.objects else (404, {"message": "not found"})

    def _phase(self) -> dict[str, Any]:
        return self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]

    def client(self) -> client.ApiClient:
        """A client of it, as from a kubeconfig."""
        configuration = client.Configuration()
        configuration.host = self.url
        configuration.retries = False
        return client.ApiClient(configuration)

    def context(self, *demands: Demand, **given: Any) -> CheckContext:
        """What the checks look at."""
        return CheckContext(namespace="runs", api=Api(self.client()), demands=demands, **given)


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    """A running server."""
    fake = FakeKubernetes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def do_DELETE(self) -> None:
            self._serve("DELETE")

        def _serve(self, method: str) -> None:
            path = urlsplit(self.path).path
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.requests.append(f"{method} {path}")
            status, value = fake.answer(method, path, json.loads(data) if data else None)
            answer = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()
