"""Where a job of a step runs on a cluster: nodes, resources, queue, patience. Nothing here changes a result."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel

TORCH_CPU, TORCH_GPU, PLAIN = "zoetrope-torch-cpu", "zoetrope-torch-gpu", "zoetrope-plain"
"""Names of the TrainingRuntimes in manifests/base."""


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
        service_account: of the job's pods, which need no right.
        schedule_timeout: seconds that pods may be unschedulable, or without their image, before the step fails.
            Waiting in a queue is not counted.
        deadline: seconds after which the job is stopped.
        max_restarts: how often a job is made anew after lost nodes and preemption.
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
    service_account: str = "zoetrope-job"
    schedule_timeout: int = Field(default=1800, ge=1)
    deadline: int = Field(default=86400, ge=1)
    max_restarts: int = Field(default=3, ge=0)
