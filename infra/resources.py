"""What an execution of a step occupied."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from zoetrope.infra.config import StrictModel


class Resources(StrictModel):
    """What is set aside for a step, and therefore paid for, whether it is used or not.

    Attributes:
        cpu: CPU cores.
        memory_gb: memory in GB (10^9 bytes).
        gpus: number of GPUs.
        gpu_kind: name of the GPU as in the price sheets, e.g. `h200`; empty without GPUs.
    """

    cpu: float = Field(default=1.0, ge=0)
    memory_gb: float = Field(default=1.0, ge=0)
    gpus: int = Field(default=0, ge=0)
    gpu_kind: str = ""


class Allocation(Protocol):
    """Resources that an attempt of a step held for a time: all that a price sheet has to know of it."""

    @property
    def run_id(self) -> str:
        """The pipeline run."""

    @property
    def step(self) -> str:
        """Name of the step."""

    @property
    def resources(self) -> Resources:
        """What was allocated."""

    @property
    def seconds(self) -> float:
        """How long it was held."""
