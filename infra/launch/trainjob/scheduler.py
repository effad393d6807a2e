"""The TorchX scheduler `trainjob`: `torchx run -s trainjob dist.torchrun -j 2x8 --script train.py`."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from torchx.schedulers.api import DescribeAppResponse, ListAppResponse, Scheduler, Stream, StructuredOpts
from torchx.specs import AppDef, AppDryRunInfo, AppState, ReplicaStatus, Role, RoleStatus, runopts

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes import Cluster, Stop
from zoetrope.infra.kubernetes.jobs import MANAGED_BY, condition, is_terminal, pods_of, true_condition
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.follow import waits_for
from zoetrope.infra.launch.trainjob.logs import replica_lines
from zoetrope.infra.launch.trainjob.pods import History, Pod, failed, index, phase
from zoetrope.infra.launch.trainjob.resource import Identity, trainjob
from zoetrope.infra.launch.trainjob.state import belongs
from zoetrope.infra.placement import Placement, cores

log = logging.getLogger(__name__)
NAME = "trainjob"
TORCHX = "torchx"
SESSION = "torchx/session"
_PHASES = {
    "Pending": AppState.PENDING,
    "Running": AppState.RUNNING,
    "Succeeded": AppState.SUCCEEDED,
    "Failed": AppState.FAILED,
}
_PROCESSES = re.compile(r"--nproc[-_]per[-_]node[ =]'?(\d+)")


@dataclass
class Opts(StructuredOpts):  # type: ignore[misc]
    """Options of `torchx run -s trainjob -cfg NAME=VALUE,...`."""

    namespace: str = ""
    """Namespace of the job; empty takes TORCHX_NAMESPACE, else the pod's or the kubeconfig's."""

    context: str = ""
    """Context of the kubeconfig; TORCHX_CONTEXT serves the commands that take no options."""

    runtime: str = "zoetrope-torch-cpu"
    """Name of the TrainingRuntime."""

    cluster_runtime: bool = False
    """Whether the runtime is a ClusterTrainingRuntime."""

    queue: str = ""
    """Kueue's local queue; empty for none."""

    service_account: str = ""
    """Service account of the pods; empty takes the runtime's."""

    node_selector: list[str] | None = None
    """Labels that the nodes must have, as `name=value`."""

    tolerations: list[str] | None = None
    """Taints that the pods tolerate, as `key[=value][:effect]`."""

    deadline: int = 86400
    """Seconds after which the job is stopped."""

    gpu_resource: str = "nvidia.com/gpu"
    """Name of the GPU resource of the nodes."""

    cpu_request: str = ""
    """CPU that each pod asks for, e.g. `500m`; empty takes the role's, which is also the limit."""

    processes_per_node: int = 0
    """PET_NPROC_PER_NODE of the pods; 0 takes torchrun's --nproc_per_node, else 1."""

    job_name: str = ""
    """Name of the TrainJob; empty makes one from the app's name."""

    owner: str = ""
    """Name of an Argo Workflow with which the job is deleted; empty for none."""


class TrainJobScheduler(Scheduler[Opts]):  # type: ignore[misc]
    """Runs TorchX apps as Kubeflow TrainJobs.

    Args:
        session_name: of TorchX.
        context: of the kubeconfig, where the options name none.
        namespace: where the options and the job's id name none.
        cluster: for tests.
    """

    def __init__(
        self, session_name: str, context: str = "", namespace: str = "", cluster: Cluster | None = None
    ) -> None:
        super().__init__(NAME, session_name)
        self._context, self._namespace = context, namespace
        self._given = cluster

    def schedule(self, dryrun_info: AppDryRunInfo[dict[str, Any], Opts]) -> str:
        """Makes the TrainJob and returns `NAMESPACE:NAME`."""
        made = self._cluster_of(dryrun_info.cfg).create("trainjobs", dryrun_info.request)
        return f"{made['metadata']['namespace']}:{made['metadata']['name']}"

    def _submit_dryrun(self, app: AppDef, cfg: Opts) -> AppDryRunInfo[dict[str, Any], Opts]:
        cluster = self._cluster_of(cfg)
        role = app.roles[0]
        identity = Identity(
            name=cfg.job_name or names.unique_name(app.name),
            namespace=cluster.namespace,
            labels={MANAGED_BY: TORCHX, "torchx/app": names.label_value(app.name)},
            annotations={SESSION: self.session_name, **{f"torchx/{k}": str(v) for k, v in app.metadata.items()}},
            owner=_owner(cluster, cfg.owner),
        )
        job = trainjob(app, _placement(role, cfg), identity, cluster_runtime=cfg.cluster_runtime)
        return AppDryRunInfo(job, lambda request: json.dumps(request, indent=2))

    def _run_opts(self) -> runopts:
        return Opts.as_runopts()

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """State of the job and its pods; None where there is no such job."""
        cluster, name = self._find(app_id)
        job = cluster.get("trainjobs", name)
        if job is None:
            return None
        pods = [pod for pod in cluster.pods(pods_of(name)) if belongs(pod, job)]
        role, trainer = _role_name(job), job["spec"].get("trainer") or {}
        replicas = [_replica(pod, role) for pod in sorted(_newest(pods), key=index)]
        described = Role(role, image=trainer.get("image", ""), num_replicas=int(trainer.get("numNodes") or 1))
        return DescribeAppResponse(
            app_id=app_id,
            state=state_of(job, pods),
            msg=_message(job) or waits_for(cluster, job, pods),
            roles=[described],
            roles_statuses=[RoleStatus(role, replicas)],
        )

    def describe_native(self, app_id: str) -> AppDryRunInfo[dict[str, Any], Opts] | None:
        """The TrainJob itself; None where there is no such job."""
        cluster, name = self._find(app_id)
        job = cluster.get("trainjobs", name)
        return None if job is None else AppDryRunInfo(job, lambda request: json.dumps(request, indent=2))

    def list(self, cfg: Mapping[str, Any] | None = None) -> list[ListAppResponse]:
        """All TrainJobs of the namespace."""
        cluster = self._cluster_of(Opts.from_cfg(cfg or {}))
        return [
            ListAppResponse(
                app_id=f"{cluster.namespace}:{job['metadata']['name']}",
                state=state_of(job, []),
                name=str((job["metadata"].get("annotations") or {}).get(names.APP, job["metadata"]["name"])),
            )
            for job in cluster.list("trainjobs")
        ]

    def log_iter(
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        """The lines of node `k`; with `should_tail` until the job ends, also across replaced pods."""
        if streams not in (None, Stream.COMBINED) or until is not None:
            raise ZoetropeError(
                "logs of a TrainJob: Kubernetes joins both streams and knows no end time", "leave it out"
            )
        cluster, name = self._find(app_id)
        wanted = re.compile(regex) if regex else None
        for line in replica_lines(cluster, name, k, since=since, follow=should_tail, stop=Stop()):
            if wanted is None or wanted.search(line):
                yield line + "\n"

    def _cancel_existing(self, app_id: str) -> None:
        """Stops the pods and keeps the job, unless a queue would start it again."""
        cluster, name = self._find(app_id)
        job = cluster.get("trainjobs", name)
        if job is None or is_terminal(job):
            return
        if (job["metadata"].get("labels") or {}).get(names.QUEUE):
            log.warning("%s is deleted, since its queue would start it again", name)
            cluster.remove_job(name)
            return
        marked = {"metadata": {"annotations": {names.CANCELLED: "true"}}, "spec": {"suspend": True}}
        cluster.patch("trainjobs", name, marked)

    def _delete_existing(self, app_id: str) -> None:
        cluster, name = self._find(app_id)
        cluster.remove_job(name)

    def _find(self, app_id: str) -> tuple[Cluster, str]:
        namespace, _, name = app_id.rpartition(":")
        return self._cluster(namespace, ""), name

    def _cluster_of(self, cfg: Opts) -> Cluster:
        return self._cluster(cfg.namespace, cfg.context)

    def _cluster(self, namespace: str, context: str) -> Cluster:
        return self._given or Cluster.connect(namespace or self._namespace, context or self._context)


def create_scheduler(session_name: str, **parameters: Any) -> TrainJobScheduler:
    """TorchX's way to make the scheduler; TORCHX_CONTEXT and TORCHX_NAMESPACE of the environment are parameters."""
    if Path(sys.argv[0]).name == "torchx":  # prints its own errors in one line, those of schedulers with a traceback
        sys.excepthook = _say
    given = {name: str(parameters.get(name) or "") for name in ("context", "namespace")}
    return TrainJobScheduler(session_name, cluster=parameters.get("cluster"), **given)


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, ZoetropeError):
        print(f"torchx: {error}", file=sys.stderr)  # noqa: T201
    else:
        sys.__excepthook__(kind, error, trace)


def state_of(job: Mapping[str, Any], pods: Iterable[Pod]) -> AppState:
    """TorchX's word for the state of a TrainJob."""
    if true_condition(job, "Complete"):
        return AppState.SUCCEEDED
    if true_condition(job, "Failed"):
        return AppState.FAILED
    if (job["metadata"].get("annotations") or {}).get(names.CANCELLED) == "true":
        return AppState.CANCELLED
    if job["spec"].get("suspend") or true_condition(job, "Suspended"):
        return AppState.PENDING
    statuses = (job.get("status") or {}).get("jobsStatus") or []
    running = any(phase(pod) == "Running" for pod in pods) or any(status.get("ready") for status in statuses)
    return AppState.RUNNING if running else AppState.SUBMITTED if not statuses else AppState.PENDING


def _placement(role: Role, cfg: Opts) -> Placement:
    resource = role.resource
    found = next((match for text in role.args if (match := _PROCESSES.search(text))), None)
    return Placement(
        image=role.image,
        runtime=cfg.runtime,
        processes_per_node=cfg.processes_per_node or (int(found[1]) if found else 1),
        cpu=max(resource.cpu, 0) or 1,
        cpu_request=cores(cfg.cpu_request) if cfg.cpu_request else 0.0,
        memory_gb=max(resource.memMB, 0) / 1000 or 2.0,
        gpus=max(resource.gpu, 0),
        gpu_resource=cfg.gpu_resource,
        queue=cfg.queue,
        node_selector=dict(_pair(text) for text in cfg.node_selector or ()),
        tolerations=[_toleration(text) for text in cfg.tolerations or ()],
        service_account=cfg.service_account,
        deadline=cfg.deadline,
    )


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ZoetropeError(f"node_selector {text!r}: not name=value", "write it like node_selector=pool=gpu")
    return name, value


def _toleration(text: str) -> dict[str, str]:
    rest, _, effect = text.partition(":")
    key, valued, value = rest.partition("=")
    toleration = {"key": key, "operator": "Equal" if valued else "Exists"}
    return toleration | ({"value": value} if valued else {}) | ({"effect": effect} if effect else {})


def _owner(cluster: Cluster, workflow: str) -> dict[str, Any] | None:
    from zoetrope.infra.launch.trainjob.resource import owner_reference

    if not workflow:
        return None
    found = cluster.get("workflows", workflow)
    if found is None:
        raise ZoetropeError(f"owner {workflow}: there is no such Workflow in {cluster.namespace}", "check its name")
    return owner_reference(found)


def _role_name(job: Mapping[str, Any]) -> str:
    return str((job["metadata"].get("annotations") or {}).get(names.ROLE, names.NODE))


def _newest(pods: Iterable[Pod]) -> list[Pod]:
    return [record.pod for record in History.of(pods).latest]


def _replica(pod: Pod, role: str) -> ReplicaStatus:
    spec = pod.get("spec") or {}
    host = f"{spec['hostname']}.{spec['subdomain']}" if spec.get("subdomain") else ""
    state = AppState.FAILED if failed(pod) else _PHASES.get(phase(pod), AppState.UNKNOWN)
    return ReplicaStatus(id=index(pod), role=role, state=state, hostname=host)


def _message(job: Mapping[str, Any]) -> str:
    for kind in ("Failed", "Complete", "Suspended"):
        found = condition(job, kind)
        if found and found["status"] == "True":
            return str(found.get("message") or found.get("reason") or "")
    return ""
