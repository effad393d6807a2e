"""A small API server: keeps objects, tells watchers, follows logs, can be stopped and started again."""

from __future__ import annotations

import copy
import json
import socket
import threading
import uuid
from collections import defaultdict

import pytest

from tests.infra.api_server_http import Handler, Server, merged, now


class ApiServer:
    """Kubernetes, as far as the client uses it.

    Attributes:
        objects: (kind, name) -> object.
        requests: (method, path, query) in the order in which they came.
        logs: name of a pod -> lines of its log, each with its time.
        refusals: (method, kind) -> (status, body), for every such request.
        missing: kinds whose definitions are not installed.
    """

    def __init__(self):
        self.objects, self.requests, self.logs = {}, [], defaultdict(list)
        self.refusals, self.missing = {}, set()
        self.keep_deleted = False
        self._hooks, self._log, self._version = defaultdict(list), [], 100
        self._changed = threading.Condition(threading.RLock())
        self._connections, self._cuts, self._http = set(), 0, None
        self.port = 0
        self.start()

    # Running and not running

    def start(self):
        server = self

        class OfThis(Handler):
            api = server

        self._http = Server(("127.0.0.1", self.port), OfThis)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=[0.01], daemon=True).start()

    def stop(self):
        http, self._http = self._http, None
        if http:
            http.shutdown()
            http.server_close()
            self.cut()

    def cut(self):
        """Breaks all connections."""
        with self._changed:
            for connection in list(self._connections):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self._cuts += 1
            self._changed.notify_all()

    def client(self, retry_seconds=20.0, namespace="test"):
        from kubernetes import client

        from zoetrope.infra.kubernetes import Cluster

        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self.port}"
        configuration.retries = False
        cluster = Cluster(client.ApiClient(configuration), namespace, retry_seconds)
        cluster.retry_policy.longest_wait = 0.02
        return cluster

    def kubeconfig(self, path):
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "here",
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "test"}}],
                }
            )
        )  # fmt: skip
        return path

    # Objects

    def put(self, kind, item):
        """Makes or changes an object, as a controller would."""
        with self._changed:
            item = copy.deepcopy(item)
            name = item["metadata"]["name"]
            known = self.objects.get((kind, name))
            self._version += 1
            item["metadata"].setdefault("uid", known["metadata"]["uid"] if known else str(uuid.uuid4()))
            item["metadata"].setdefault("creationTimestamp", now())
            item["metadata"]["resourceVersion"] = str(self._version)
            self.objects[kind, name] = item
            self._tell(kind, "MODIFIED" if known else "ADDED", item)
            return copy.deepcopy(item)

    def change(self, kind, name, **fields):
        """Merges fields into an object."""
        with self._changed:
            return self.put(kind, merged(self.objects[kind, name], fields))

    def condition(self, name, kind, status="True", reason="", message=""):
        """Sets a condition of a TrainJob."""
        with self._changed:
            job = copy.deepcopy(self.objects["trainjobs", name])
            others = [c for c in job.get("status", {}).get("conditions", []) if c["type"] != kind]
            new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
            job["status"] = {**job.get("status", {}), "conditions": [*others, new]}
            return self.put("trainjobs", job)

    def remove(self, kind, name):
        with self._changed:
            item = self.objects.pop((kind, name), None)
            if item:
                self._version += 1
                item["metadata"]["resourceVersion"] = str(self._version)
                self._tell(kind, "DELETED", item)
            if item and kind == "trainjobs":
                for other, pod in list(self.objects):
                    labels = self.objects[other, pod]["metadata"].get("labels", {})
                    if other == "pods" and labels.get("jobset.sigs.k8s.io/jobset-name") == name:
                        self.remove("pods", pod)

    def suspended(self, name):
        """What the controllers do about a suspended TrainJob, its pods end; a test may replace it."""
        self.condition(name, "Suspended", reason="TrainJobSuspended")
        with self._changed:
            for kind, pod in list(self.objects):
                labels = self.objects[kind, pod]["metadata"].get("labels", {})
                if kind == "pods" and labels.get("jobset.sigs.k8s.io/jobset-name") == name:
                    self.change(kind, pod, metadata={"deletionTimestamp": now()})

    def write(self, pod, *lines):
        """Appends lines to a pod's log."""
        with self._changed:
            self.logs[pod] += [f"{now()} {line}" for line in lines]
            self._changed.notify_all()

    def compact(self):
        """Forgets what happened, so that a watch cannot be continued."""
        with self._changed:
            self._log.clear()
            self._compacted = self._version

    def on(self, method, kind, do, query=""):
        """Calls `do(name)` after the next such request (a watch or a followed log: while it goes on); one for each."""
        self._hooks[method, kind, query].append(do)

    def made(self, method):
        return [path.rpartition("/")[2] for verb, path, _ in self.requests if verb == method]

    # What the handler needs

    _compacted = 0

    def _tell(self, kind, what, item):
        self._log.append((self._version, kind, what, copy.deepcopy(item)))
        self._changed.notify_all()

    def run_hooks(self, method, kind, query, name):
        key = next((word for word in ("watch", "follow") if query.get(word)), "")
        hooks = self._hooks[method, kind, key]
        if hooks:
            hooks.pop(0)(name)


@pytest.fixture
def api_server():
    server = ApiServer()
    yield server
    server.stop()
