"""What a check is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubeflow import KubeflowSettings
from zoetrope.infra.kubernetes.raw import Api
from zoetrope.infra.redact import redacted

APPLY_HINT = "apply the manifests: `kubectl apply -k manifests/overlays/...`, see docs/how-to/cluster.md"
Status = Literal["ok", "problem", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One line of a doctor's report.

    Attributes:
        check: what was looked at.
        status: `ok`, `problem`, or `unknown` where it could not be looked at.
        detail: what was found.
        hint: how to fix it; empty where nothing is to be fixed.
    """

    check: str
    status: Status
    detail: str
    hint: str = ""

    def __post_init__(self) -> None:
        for name in ("detail", "hint"):  # both name addresses as they were configured
            object.__setattr__(self, name, redacted(getattr(self, name)))


@dataclass(frozen=True)
class Demand:
    """What one kind of pod of a recipe asks for.

    Attributes:
        step: name of the step.
        pods: at the same time.
        cpu: cores that each pod asks for.
        memory_gb: GB (10^9 bytes) that each pod asks for.
        gpus: of each pod.
        gpu_resource: name of the nodes' GPU resource.
        runtime: TrainingRuntime that the pods run on; empty for a step's own pod.
        cpu_limit: cores that each pod may use; 0 takes `cpu`.
        memory_limit_gb: GB that each pod may use; 0 takes `memory_gb`.
    """

    step: str
    pods: int
    cpu: float
    memory_gb: float
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    runtime: str = ""
    cpu_limit: float = 0.0
    memory_limit_gb: float = 0.0


@dataclass(frozen=True)
class CheckContext:
    """What the checks of a cluster look at.

    Attributes:
        namespace: where runs live.
        api: the Kubernetes API, or the reason why there is none.
        kubeflow: Kubeflow Pipelines; None where no host was named.
        images: name -> image with digest, of `images.lock`.
        demands: of the recipe; empty where none was named.
        service_account: of the step pods.
        store: root URI of the store, for messages.
    """

    namespace: str
    api: Api | ZoetropeError
    kubeflow: KubeflowSettings | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    demands: Sequence[Demand] = ()
    service_account: str = "zoetrope-runner"

    @property
    def kubernetes(self) -> Api:
        """The API; raises the reason where there is none."""
        if isinstance(self.api, ZoetropeError):
            raise self.api
        return self.api


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", detail)


def problem(check: str, detail: str, hint: str) -> Finding:
    """Something to fix."""
    return Finding(check, "problem", detail, hint)


def unknown(check: str, detail: str, hint: str = "") -> Finding:
    """Could not be looked at from here."""
    return Finding(check, "unknown", detail, hint)
