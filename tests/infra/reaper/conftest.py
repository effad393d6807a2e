"""A cluster of plain dicts with the shape of `zoetrope.infra.kubernetes.api.Cluster`."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from kubernetes.client.exceptions import ApiException

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import JOB_OF_POD
from zoetrope.infra.store import open_store

START = 1_800_000_000.0


def stamp(after):
    return datetime.fromtimestamp(START + after, UTC).isoformat().replace("+00:00", "Z")


def step_pod(name, run, node_name="wf.root.curate.executor", workflow="wf", cpu="500m", **more):
    labels = {"pipeline/runid": run, "workflows.argoproj.io/workflow": workflow}
    return pod_of(name, labels, {"workflows.argoproj.io/node-name": node_name}, cpu=cpu, **more)


def job_pod(name, job, **more):
    return pod_of(name, {JOB_OF_POD: job}, {}, **more)


def pod_of(name, labels, annotations, *, created=0, scheduled=10, ended=None, exit_code=0, cpu="2", gpus=0, node="n1"):
    requests = {"cpu": cpu, "memory": "1Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    status = {"phase": "Pending", "conditions": []}
    if scheduled is not None:
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(scheduled)}
        status = {"phase": "Running", "startTime": stamp(scheduled), "conditions": [condition]}
    if ended is not None:
        state = {"terminated": {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}}
        state["terminated"]["finishedAt"] = stamp(ended)
        status |= {"phase": "Failed" if exit_code else "Succeeded"}
        status["containerStatuses"] = [{"name": "node", "state": state}]
    return {
        "metadata": {
            "name": name, "uid": f"uid-{name}", "namespace": "test", "labels": labels, "annotations": annotations,
            "creationTimestamp": stamp(created),
        },
        "spec": {"nodeName": node, "containers": [{"name": "node", "resources": {"requests": requests}}]},
        "status": status,
    }  # fmt: skip


def workflow_of(name, run, phase="Running", **spec):
    meta = {"name": name, "labels": {"pipeline/runid": run}}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase}}


def trainjob(name, run, workflow="wf", step="stage_1", attempt=1, condition="", labels=None, created=0):
    ours = {
        "app.kubernetes.io/managed-by": "zoetrope", "zoetrope/run": run, "zoetrope/step": step,
        "zoetrope/attempt": str(attempt),
    }  # fmt: skip
    return {
        "metadata": {
            "name": name, "labels": ours if labels is None else labels, "creationTimestamp": stamp(created),
            "annotations": {"zoetrope/workflow": workflow, "zoetrope/gpu-kind": "h200"},
        },
        "status": {"conditions": [{"type": condition, "status": "True"}] if condition else []},
    }  # fmt: skip


class FakeCluster:
    """Objects by kind; deleting a job marks its pods, which end and vanish as `now` goes on."""

    namespace = "test"

    def __init__(self):
        self.objects = {"workflows": {}, "trainjobs": {}, "pods": {}}
        self.now, self.calls, self.refused, self.grace = START, [], set(), 2.0
        self.node_labels = {"node.kubernetes.io/instance-type": "m7i.xlarge"}
        self.core = SimpleNamespace(read_node=self._read_node)

    def add(self, kind, *objects):
        for each in objects:
            self.objects[kind][each["metadata"]["name"]] = each

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def get(self, kind, name):
        self._call("get", kind, name)
        return copy.deepcopy(self.objects[kind].get(name))

    def list(self, kind, labels=None):
        self._call("list", kind)
        self._pass_time()
        found = self.objects[kind].values()
        wanted = (labels or {}).items()
        return [copy.deepcopy(each) for each in found if wanted <= each["metadata"].get("labels", {}).items()]

    def each(self, kind, labels=None, *, page):
        assert 0 < page < 100
        present = [name for name, value in (labels or {}).items() if not value]
        for found in self.list(kind, {name: value for name, value in (labels or {}).items() if value}):
            if all(name in found["metadata"].get("labels", {}) for name in present):
                yield found

    def pods(self, labels):
        return self.list("pods", labels)

    def remove_job(self, name):
        self.delete("trainjobs", name)

    def delete(self, kind, name):
        self._call("delete", kind, name)
        self.objects[kind].pop(name, None)
        for pod in list(self.objects["pods"].values()):
            if pod["metadata"]["labels"].get(JOB_OF_POD) == name:
                pod["metadata"]["deletionTimestamp"] = stamp(self.now - START + 30)
                pod["metadata"]["deletionGracePeriodSeconds"] = 30

    def _pass_time(self):
        for name, pod in list(self.objects["pods"].items()):
            until = pod["metadata"].get("deletionTimestamp")
            asked = datetime.fromisoformat(until).timestamp() - 30 if until else None
            if asked is not None and self.now >= asked + self.grace + 1:
                self.objects["pods"].pop(name, None)
            elif asked is not None and self.now >= asked + self.grace and pod["status"]["phase"] == "Running":
                finished = stamp(asked + self.grace - START)
                state = {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": finished}}
                pod["status"] |= {"phase": "Failed", "containerStatuses": [{"name": "node", "state": state}]}

    def _call(self, *call):
        self.calls.append(call)
        if call in self.refused:
            raise ZoetropeError(f"{' '.join(call)}: refused", retryable=True)

    def _read_node(self, name, _request_timeout=None):
        self.calls.append(("get", "nodes", name))
        if self.node_labels is None:
            raise ApiException(status=403)
        return SimpleNamespace(metadata=SimpleNamespace(labels=self.node_labels))


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


@pytest.fixture
def make():
    return SimpleNamespace(
        step_pod=step_pod, job_pod=job_pod, workflow=workflow_of, trainjob=trainjob, stamp=stamp, start=START
    )
