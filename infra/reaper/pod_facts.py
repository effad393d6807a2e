"""What a pod of a run says of itself, from the JSON that the Kubernetes API answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from zoetrope.infra.kubernetes.jobs import ATTEMPT, GPU_KIND, JOB_OF_POD, STEP
from zoetrope.infra.ledger import PodFacts
from zoetrope.infra.ledger.chain import Outcome
from zoetrope.infra.resources import Resources

RUN_OF_POD = "pipeline/runid"
"""Label that KFP sets on each pod of a run, and on the run's Workflow."""
NODE_NAME = "workflows.argoproj.io/node-name"
WORKFLOW_OF_POD = "workflows.argoproj.io/workflow"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
GPU_PRODUCT = "nvidia.com/gpu.product"
REASON_LENGTH = 500

_GPU = re.compile(r".+/(gpu|mig-.+)")
_TRY = re.compile(r"\((?P<number>[0-9]+)[^)]*\)")


def pod_facts(
    pod: Mapping[str, Any], job: Mapping[str, Any] | None = None, node_labels: Mapping[str, str] | None = None
) -> PodFacts | None:
    """What the ledger has to know of a pod, or None while it has no node: such a pod holds nothing.

    Args:
        pod: the pod as the API gives it.
        job: the TrainJob that it belongs to.
        node_labels: labels of its node, where they may be read.
    """
    status, meta, spec = pod.get("status", {}), pod["metadata"], pod["spec"]
    scheduled = _scheduled(status)
    if scheduled is None:
        return None
    labels = node_labels or {}
    annotations = {**(job or {}).get("metadata", {}).get("annotations", {}), **meta.get("annotations", {})}
    resources, gpu_resource = _held(spec)
    if resources.gpus:
        kind = annotations.get(GPU_KIND) or _gpu_kind(labels.get(GPU_PRODUCT, "")) or gpu_resource
        resources = resources.model_copy(update={"gpu_kind": kind})
    step, attempt, role = _place(meta, job)
    ended = _ended(status, scheduled)
    asked = _asked_to_end(meta)
    outcome, reason = _outcome(status, asked, ended)
    return PodFacts(
        uid=meta["uid"],
        pod=meta["name"],
        namespace=meta.get("namespace", ""),
        step=step,
        attempt=attempt,
        role=role,
        job=meta.get("labels", {}).get(JOB_OF_POD, ""),
        resources=resources,
        gpu_resource=gpu_resource,
        node=spec.get("nodeName", ""),
        node_type=labels.get(INSTANCE_TYPE, ""),
        created=_seconds(meta.get("creationTimestamp")) or scheduled,
        scheduled=scheduled,
        asked_to_end=asked,
        ended=ended,
        outcome=outcome,
        reason=reason,
    )


def _place(meta: Mapping[str, Any], job: Mapping[str, Any] | None) -> tuple[str, int, str]:
    """Step, number of the attempt and role of a pod.

    Argo names a step's pods `WORKFLOW.root.STEP.executor` and `WORKFLOW.root.STEP-driver`, with `(N)` behind the part
    that it tries again.
    """
    if job is not None:
        labels = job["metadata"].get("labels", {})
        attempt = int(labels.get(ATTEMPT, "1"))
        # A job that is recreated has the old one's name, and its pods may still be ending.
        older = meta.get("creationTimestamp", "") < job["metadata"].get("creationTimestamp", "")
        return labels.get(STEP, ""), max(1, attempt - older), "job"
    name = meta.get("annotations", {}).get(NODE_NAME, "")
    numbers = [int(each["number"]) for each in _TRY.finditer(name)]
    parts = [part for part in _TRY.sub("", name).split(".")[1:] if part != "executor"]
    last = parts[-1] if parts else ""
    task = last.removesuffix("-driver")
    # One component may do several steps, so its pods say which one they do; drivers do not.
    named = "pipeline" if task in ("", "root") else task.replace("-", "_")
    step = meta.get("labels", {}).get(STEP) or named
    return step, max(numbers, default=0) + 1, "driver" if last.endswith("-driver") else "step"


def _held(spec: Mapping[str, Any]) -> tuple[Resources, str]:
    """What the scheduler sets aside: containers and sidecars together, or the largest init container where it asks
    for more; and the name of the GPU resource."""
    first = spec.get("initContainers") or []
    sidecars = [each for each in first if each.get("restartPolicy") == "Always"]
    together = _sum([_requests(each) for each in [*spec["containers"], *sidecars]])
    alone = [_requests(each) for each in first if each not in sidecars]
    held = {
        name: max([together.get(name, Decimal(0)), *(each.get(name, Decimal(0)) for each in alone)])
        for name in {*together, *(name for each in alone for name in each)}
    }
    held = _sum([held, {name: parse_quantity(value) for name, value in (spec.get("overhead") or {}).items()}])
    gpu_resource = next((name for name in sorted(held) if _GPU.fullmatch(name) and held[name]), "")
    resources = Resources(
        cpu=float(held.get("cpu", 0)),
        memory_gb=float(held.get("memory", Decimal(0)) / 10**9),
        gpus=int(held.get(gpu_resource, 0)),
    )
    return resources, gpu_resource


def _requests(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(value) for name, value in asked.items()}


def _sum(parts: Sequence[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total


def _gpu_kind(product: str) -> str:
    """`NVIDIA-H200` -> `h200`, `NVIDIA-A100-SXM4-80GB` -> `a100`, `NVIDIA-GeForce-RTX-4090` -> `rtx4090`."""
    words = [word for word in product.lower().split("-") if word not in ("nvidia", "geforce", "tesla")]
    if words[:1] == ["rtx"]:
        return "".join(words[:2])
    return words[0] if words else ""


def _scheduled(status: Mapping[str, Any]) -> float | None:
    """When the pod got its node. The kubelet's own `startTime` comes a moment later."""
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled":
            if condition["status"] != "True":
                return None
            return _seconds(condition.get("lastTransitionTime")) or _seconds(status.get("startTime"))
    return _seconds(status.get("startTime"))


def _ended(status: Mapping[str, Any], scheduled: float) -> float | None:
    """When the last container ended; for a pod whose containers nobody asks any more, when it was given up."""
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    finished = [_seconds(each.get("finishedAt")) for each in _terminated(status)]
    times = [time for time in finished if time]
    if not times or None in finished:
        changes = [_seconds(each.get("lastTransitionTime")) for each in status.get("conditions") or []]
        times += [time for time in changes if time]
    return max([scheduled, *times])


def _outcome(status: Mapping[str, Any], asked: float | None, ended: float | None) -> tuple[Outcome, str]:
    if ended is None or status.get("phase") == "Succeeded":
        return "succeeded", ""
    said = [str(status[key]) for key in ("reason", "message") if status.get(key)]
    said += [
        f"{each['name']}: {each.get('reason', 'Error')} (exit {each['exitCode']})"
        for each in _terminated(status)
        if each.get("exitCode")
    ]
    said += [
        str(each["message"])
        for each in status.get("conditions") or []
        if each["type"] == "DisruptionTarget" and each.get("message")
    ]
    # Deleted before it ended, rather than after.
    return ("cancelled" if asked is not None and asked <= ended else "failed"), "; ".join(said)[:REASON_LENGTH]


def _asked_to_end(meta: Mapping[str, Any]) -> float | None:
    """When the pod was deleted; the API says by when it has to be gone."""
    until = _seconds(meta.get("deletionTimestamp"))
    return None if until is None else until - float(meta.get("deletionGracePeriodSeconds") or 0)


def _terminated(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(kind) or []:
            ended = (each.get("state") or {}).get("terminated")
            if ended:
                found.append({"name": each["name"], **ended})
    return found


def _seconds(time: str | datetime | None) -> float | None:
    if not time:
        return None
    return (time if isinstance(time, datetime) else datetime.fromisoformat(time)).timestamp()
