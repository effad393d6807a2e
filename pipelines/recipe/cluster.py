"""The recipe's section `cluster`: what a cluster has to know that no result depends on."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.placement import Placement


class PodPlace(StrictModel):
    """Where pods of a step may run.

    Attributes:
        node_selector: labels that the node must have.
        tolerations: Kubernetes tolerations, as in a pod.
    """

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)


class ClusterConfig(StrictModel):
    """How the steps of a recipe run on Kubernetes.

    Attributes:
        training_nodes: pods of a training job; its world size (`workers`) is divided among them.
        cpu_request_share: share of a pod's CPU that it asks for; below 1 it may use more than it asks for, which
            suits small and shared nodes.
        gpu_resource: name of the GPU resource of the nodes.
        queue: Kueue's local queue for jobs; empty for none.
        places: step -> where its pods run; `default` stands for all that are not named.
        schedule_timeout: seconds that a job's pods may be unschedulable, or without their image, before the step
            fails.
        job_deadline: seconds after which a job is stopped.
        step_timeout: seconds after which a step's pod is stopped.
        retries: how often a step is repeated after an infrastructure failure.
        retry_seconds: wait before the first repetition; doubled for each further one.
        shared_memory_gb: size of /dev/shm in pods that run PyTorch, in GB (10^9 bytes).
    """

    training_nodes: int = Field(default=1, ge=1)
    cpu_request_share: float = Field(default=1.0, gt=0, le=1)
    gpu_resource: str = Placement.model_fields["gpu_resource"].default
    queue: str = ""
    places: dict[str, PodPlace] = Field(default_factory=dict)
    schedule_timeout: int = Field(default=1800, ge=1)
    job_deadline: int = Field(default=7 * 86400, ge=1)
    step_timeout: int = Field(default=8 * 86400, ge=1)
    retries: int = Field(default=3, ge=0)
    retry_seconds: int = Field(default=20, ge=1)
    shared_memory_gb: float = Field(default=1.0, gt=0)

    def place(self, step: str) -> PodPlace:
        """Where pods of a step run."""
        return self.places.get(step) or self.places.get("default") or PodPlace()
