"""TrainJobs and pods as Kubernetes shows them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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
    """A pod; `exit_code`, `ended`, `reason` of its container, `waiting`, `conditions`, `deleted`, `status`."""
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
    return {"metadata": metadata, "spec": {"containers": [{"name": "node"}]}, "status": status}


@pytest.fixture(scope="session")
def make():
    return SimpleNamespace(job=job_of, pod=pod_of, condition=condition_of, at=at, labels=LABELS, name=NAME)
