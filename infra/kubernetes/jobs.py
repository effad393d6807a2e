"""What the Kubernetes API says of a TrainJob, and which pods are its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MANAGED_BY = "app.kubernetes.io/managed-by"
RUN, STEP, ATTEMPT = "zoetrope/run", "zoetrope/step", "zoetrope/attempt"
"""Labels of our TrainJobs."""
WORKFLOW, GPU_KIND = "zoetrope/workflow", "zoetrope/gpu-kind"
"""Annotations of our TrainJobs: name of the Argo Workflow of the run; kind of GPU as in the price sheets."""
JOB_OF_POD = "jobset.sigs.k8s.io/jobset-name"
"""Label of the pods of a TrainJob; the JobSet has the TrainJob's name."""

STOP_FIRST = "zoetrope/stop-first"
"""Finalizer of the jobs of a run: whoever deletes one, or the Workflow that owns it, leaves the rest to
`Cluster.remove_job`, which stops its pods before the job goes."""


def pods_of(job: str) -> dict[str, str]:
    """Labels of all pods of jobs called so."""
    return {JOB_OF_POD: job}


def condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of this type, of a pod or a TrainJob, whatever its status."""
    conditions = (thing.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind), None)


def true_condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of this type if it is true."""
    found = condition(thing, kind)
    return found if found and found["status"] == "True" else None


def attempt_of(job: Mapping[str, Any]) -> int:
    """Number of the attempt, from the job's label."""
    text = (job["metadata"].get("labels") or {}).get(ATTEMPT, "1")
    return int(text) if text.isdigit() else 1


def is_stop_pending(job: Mapping[str, Any]) -> bool:
    """Whether a TrainJob was deleted and is there only because nobody has stopped it yet."""
    meta = job["metadata"]
    return "deletionTimestamp" in meta and STOP_FIRST in (meta.get("finalizers") or ())


def is_terminal(job: Mapping[str, Any]) -> bool:
    """Whether a TrainJob has completed or failed."""
    return any(true_condition(job, kind) for kind in ("Complete", "Failed"))
