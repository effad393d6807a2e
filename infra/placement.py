"""Where a job of a step runs on a cluster: nodes, resources, queue, time limits. Nothing here changes a result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quantities import scaled

if TYPE_CHECKING:
    from zoetrope.infra.settings import Settings

TORCH_CPU, TORCH_GPU, PLAIN = "zoetrope-torch-cpu", "zoetrope-torch-gpu", "zoetrope-plain"
"""Names of the TrainingRuntimes in manifests/base."""
OURS = ("ZOETROPE_", "KFP_", "HOME")
"""Variables of the launcher's own pod; those of the job's pods are set again."""


class Placement(StrictModel):
    """One job's place; kept out of jobs and cache keys, handed over by the environment of the pod.

    Attributes:
        image: image of the job's pods, with its digest.
        runtime: name of the TrainingRuntime in the job's namespace.
        nodes: pods of the job.
        processes_per_node: processes that torchrun starts in each; 1 on the plain runtime.
        cpu: CPU cores that each pod may use.
        cpu_request: CPU cores that each pod asks for; 0 takes `cpu`.
        memory_gb: memory of each pod in GB (10^9 bytes), asked for and limit.
        gpus: GPUs of each pod.
        gpu_resource: name of the GPU resource of the nodes.
        gpu_kind: kind of GPU as in the price sheets.
        queue: Kueue's local queue; empty for none.
        node_selector: labels that the node must have.
        tolerations: Kubernetes tolerations, as in a pod.
        affinity: Kubernetes affinity, as in a pod.
        env: variables that a person set on the task in KFP.
        service_account: of the job's pods, which need no right.
        schedule_timeout: seconds that pods may be unschedulable, or without their image, before the step fails.
            Waiting in a queue is not counted.
        deadline: seconds after which the job is stopped.
        max_restarts: how often a job is recreated after lost nodes and preemption.
    """

    image: str = ""
    runtime: str = TORCH_CPU
    nodes: int = Field(default=1, ge=1)
    processes_per_node: int = Field(default=1, ge=1)
    cpu: float = Field(default=1.0, gt=0)
    cpu_request: float = Field(default=0.0, ge=0)
    memory_gb: float = Field(default=2.0, gt=0)
    gpus: int = Field(default=0, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    gpu_kind: str = ""
    queue: str = ""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    affinity: dict[str, Any] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    service_account: str = "zoetrope-job"
    schedule_timeout: int = Field(default=1800, ge=1)
    deadline: int = Field(default=86400, ge=1)
    max_restarts: int = Field(default=3, ge=0)


def placement_of(settings: Settings, step: str, task_config: Any = None) -> Placement | None:
    """Where the job of a step runs: as compiled, changed by what was set on its task in KFP.

    Args:
        settings: of the pod.
        step: name of the step.
        task_config: KFP's `dsl.TaskConfig`, whose fields are pieces of a pod; None where the step takes none.

    Returns:
        None outside a cluster, and for steps that launch nothing.

    Raises:
        ZoetropeError: a quantity that is not one of Kubernetes.
    """
    if not settings.cluster or step not in settings.placements:
        return None
    values = dict(settings.placements[step])
    resources = getattr(task_config, "resources", None) or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    resource = str(values.get("gpu_resource") or Placement.model_fields["gpu_resource"].default)
    if "cpu" in limits or "cpu" in requests:
        values["cpu"] = cores(limits.get("cpu") or requests["cpu"])
        values["cpu_request"] = cores(requests.get("cpu") or limits["cpu"])
    if "memory" in limits or "memory" in requests:
        values["memory_gb"] = gigabytes(limits.get("memory") or requests["memory"])
    if resource in limits:
        values["gpus"] = int(limits[resource])
    for name in ("tolerations", "node_selector", "affinity"):
        given = getattr(task_config, name, None)
        if given:
            values[name] = given
    given = {each["name"]: each["value"] for each in getattr(task_config, "env", None) or () if each.get("value")}
    values["env"] = {name: value for name, value in given.items() if not name.startswith(OURS)}
    return Placement.model_validate(values)


_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?P<suffix>[munkMGTPE]|[KMGTPE]i)?")


def cores(quantity: str | float) -> float:
    """CPU cores of a Kubernetes quantity such as `500m`."""
    return _number(quantity)


def gigabytes(quantity: str | float) -> float:
    """GB (10^9 bytes) of a Kubernetes quantity such as `4Gi`."""
    return _number(quantity) / 1e9


def _number(quantity: str | float) -> float:
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ZoetropeError(f"{quantity!r} is not a quantity of Kubernetes", "write it like 500m, 2, 4G or 16Gi")
    return scaled(match["number"], match["suffix"])
