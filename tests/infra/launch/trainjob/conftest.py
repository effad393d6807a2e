"""TrainJobs and pods as Kubernetes shows them, and a step that launches one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zoetrope.infra.launch.trainjob.runner import JobRunner

RUN, STEP, NAME = "run-1", "stage_1", "zjob"
LABELS = {"app.kubernetes.io/managed-by": "zoetrope", "zoetrope/run": RUN, "zoetrope/step": STEP}
START = "2026-01-01T00:00:00Z"


def at(seconds):
    return f"2026-01-01T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"


def job_of(name=NAME, attempt=1, digest="d", conditions=(), created=START, restarts=0, **spec):
    return {
        "metadata": {
            "name": name,
            "namespace": "test",
            "labels": {**LABELS, "zoetrope/attempt": str(attempt)},
            "annotations": {"zoetrope/digest": digest, "zoetrope/restarts": str(restarts)},
            **({"creationTimestamp": created} if created else {}),
        },
        "spec": {"trainer": {"numNodes": 1}, **spec},
        "status": {"conditions": [dict(condition) for condition in conditions]},
    }


def condition_of(kind, status="True", reason="", message="", at=START):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


def pod_of(index=0, phase="Running", *, name="", job=NAME, attempt="1", restart=0, uid="", created=None, **more):
    """A pod; `exit_code`, `ended`, `reason` of its container, `waiting`, `conditions`, `deleted`, `status`, `node`."""
    name = name or f"{job}-node-0-{index}-{restart}"
    metadata = {
        "name": name,
        "labels": {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/restart-attempt": str(restart),
            "batch.kubernetes.io/job-completion-index": str(index),
            "zoetrope/attempt": attempt,
        },
        **({"uid": uid or name} if uid is not None else {}),
        **({"creationTimestamp": created} if created else {}),
        **({"deletionTimestamp": more["deleted"]} if more.get("deleted") else {}),
    }
    state = {}
    if phase == "Running":
        state = {"running": {"startedAt": more.get("started", START)}}
    if "exit_code" in more or phase == "Succeeded":
        state = {
            "terminated": {
                "exitCode": more.get("exit_code", 0),
                "reason": more.get("reason", "Error"),
                "startedAt": more.get("started", START),
                "finishedAt": more.get("ended", at(60)),
            }
        }
    if more.get("waiting"):
        state = {"waiting": more["waiting"]}
    status = {"phase": phase, "conditions": list(more.get("conditions", ())), **more.get("status", {})}
    if state:
        status["containerStatuses"] = [{"name": "node", "image": "i", "state": state}]
    spec = {"containers": [{"name": "node"}], **({"nodeName": more["node"]} if more.get("node") else {})}
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.fixture(scope="session")
def make():
    return SimpleNamespace(job=job_of, pod=pod_of, condition=condition_of, at=at, labels=LABELS, name=NAME)


class Step:
    """A step and the cluster around it.

    Attributes:
        said: the status lines.
        lines: of the job's log.
        ended: (attempt, number of pods, whether the job was still there) for each call of `on_finished`.
        reserved: attempts for which money was set aside.
    """

    def __init__(self, server, make):
        self.server, self.make = server, make
        self.said, self.lines, self.ended, self.reserved = [], [], [], []
        self.result = True
        self.cluster = server.client(retry_seconds=30)

    def runner(self, **changes):
        labels = dict(self.make.labels)
        fields = {
            "cluster": self.cluster, "name": self.make.name, "labels": labels, "digest": "d", "make_body": self.body,
            "has_result": lambda: self.result, "on_status": self.said.append, "on_log_line": self.lines.append,
            "on_finished": self.on_finished, "reserve": self.reserved.append, "max_restarts": 2,
        }  # fmt: skip
        return JobRunner(**{**fields, **changes})

    def body(self, attempt, owner):
        job = self.make.job(attempt=attempt, created=None)
        del job["status"]
        if owner:
            job["metadata"]["ownerReferences"] = [owner]
        return job

    def on_finished(self, job, pods):
        there = ("trainjobs", self.make.name) in self.server.objects
        self.ended.append((job["metadata"]["labels"]["zoetrope/attempt"], len(pods), there))

    def attempt(self, *script):
        """What the cluster does after the next job was made: each a function of the attempt's number."""

        def run(name):
            number = self.server.objects["trainjobs", name]["metadata"]["labels"]["zoetrope/attempt"]
            for each in script:
                each(number)

        self.server.on("POST", "trainjobs", run)

    def pod(self, index=0, phase="Running", **fields):
        return lambda attempt: self.server.put(
            "pods", self.make.pod(index, phase, attempt=attempt, name=f"pod-{attempt}-{index}", uid=None, **fields)
        )

    def ends(self, kind, reason=""):
        return lambda attempt: self.server.condition(self.make.name, kind, reason=reason)

    def log(self, *lines, index=0):
        return lambda attempt: self.server.write(f"pod-{attempt}-{index}", *lines)

    def there(self, attempt=1, ends="", **fields):
        """A job that is there already."""
        conditions = [self.make.condition(ends)] if ends else []
        return self.server.put("trainjobs", self.make.job(attempt=attempt, conditions=conditions, **fields))

    def jobs_made(self):
        return self.server.made("POST").count("trainjobs")


@pytest.fixture
def step(api_server, make, monkeypatch):
    monkeypatch.setattr("zoetrope.infra.launch.trainjob.logs.RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr("zoetrope.infra.launch.trainjob.follow.LOG_END_SECONDS", 0.5)
    return Step(api_server, make)
