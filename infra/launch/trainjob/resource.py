"""From a TorchX app and a placement to a TrainJob, without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import STOP_FIRST
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.placement import Placement

if TYPE_CHECKING:
    from torchx.specs import AppDef, Role

API_VERSION = "trainer.kubeflow.org/v1alpha1"
MANAGER = "zoetrope/launch"
"""Who owns the patch of the runtime: a path with a domain, as Trainer wants it."""
RANK0, REPLICA = "TORCHX_RANK0_HOST", "TORCHX_REPLICA_ID"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_MARK = "\x00"


class Identity(StrictModel):
    """What a job is called and whose it is.

    Attributes:
        name: of the TrainJob.
        namespace: where it lies, with its runtime.
        labels: of the TrainJob and its pods.
        annotations: of the TrainJob.
        owner: owner reference, by which Kubernetes deletes the job with its owner; None for none.
        stop_first: whether a deleted job stays until `Cluster.remove_job` has stopped its pods; needs a reaper.
    """

    name: str
    namespace: str
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner: dict[str, Any] | None = None
    stop_first: bool = False


def trainjob(
    app: AppDef,
    placement: Placement,
    identity: Identity,
    environment: Mapping[str, str] | None = None,
    *,
    cluster_runtime: bool = False,
) -> dict[str, Any]:
    """The TrainJob for `app`.

    Args:
        app: with one role, whose replicas become the nodes.
        placement: where it runs; its image wins over the role's, its `nodes` are not read.
        identity: name, namespace, labels and owner.
        environment: added to the role's environment, which wins.
        cluster_runtime: the runtime is a ClusterTrainingRuntime.

    Raises:
        ZoetropeError: the app cannot be a TrainJob.
    """
    names.check_name(identity.name)
    role = _only_role(app)
    names.check_environment({*role.env, *(environment or {})})
    command, arguments, variables = _process(role, identity.name, environment or {})
    trainer: dict[str, Any] = {
        "image": placement.image or role.image,
        "command": command,
        "args": arguments,
        "env": variables,
        "numNodes": role.num_replicas,
        "numProcPerNode": placement.processes_per_node,
        "resourcesPerNode": _resources(placement, role),
    }
    metadata: dict[str, Any] = {
        "name": identity.name,
        "namespace": identity.namespace,
        "labels": dict(identity.labels),
        "annotations": {names.ROLE: role.name, names.APP: app.name, **identity.annotations},
    }
    if role.max_retries:
        metadata["annotations"][names.RETRIES] = str(role.max_retries)
    if placement.queue:
        metadata["labels"][names.QUEUE] = placement.queue
    if identity.owner:
        metadata["ownerReferences"] = [identity.owner]
    if identity.stop_first:
        metadata["finalizers"] = [STOP_FIRST]
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {
            "runtimeRef": {
                "apiGroup": API_VERSION.partition("/")[0],
                "kind": "ClusterTrainingRuntime" if cluster_runtime else "TrainingRuntime",
                "name": placement.runtime,
            },
            "trainer": trainer,
            "runtimePatches": [_patch(placement, role, identity)],
            "activeDeadlineSeconds": placement.deadline,
        },
    }


def owner_reference(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The reference by which a job goes when its Argo Workflow is deleted."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": workflow["metadata"]["name"],
        "uid": workflow["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }


def literal(text: str) -> str:
    """`text` for a place where Kubernetes expands `$(NAME)`: it comes out as it went in."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _only_role(app: AppDef) -> Role:
    if len(app.roles) != 1:
        raise ZoetropeError(
            f"app {app.name}: {len(app.roles)} roles, but a TrainJob has one kind of node",
            "launch an app for each role",
        )
    role = app.roles[0]
    if role.num_replicas < 1:
        raise ZoetropeError(f"app {app.name}: role {role.name} has no replicas", "give it at least one")
    return role


def _process(
    role: Role, name: str, environment: Mapping[str, str]
) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Command, arguments and environment, with TorchX's macros filled in.

    All nodes share one template, so `${replica_id}` becomes a variable that Kubernetes expands in each pod.
    """
    from torchx.specs import macros

    values = macros.Values(img_root="", app_id=name, replica_id=_MARK, rank0_env=RANK0)
    filled = values.apply(role)

    def final(text: str) -> str:
        return literal(text).replace(_MARK, f"$({REPLICA})")

    plain = {RANK0: f"{name}-{names.NODE}-0-0.{name}", **environment, **filled.env}
    # First, since Kubernetes expands a variable only in what comes after it.
    index = {"name": REPLICA, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{names.POD_INDEX}']"}}}
    variables = [index, *({"name": key, "value": final(value)} for key, value in plain.items() if key != REPLICA)]
    return [final(filled.entrypoint)], [final(argument) for argument in filled.args], variables


def _resources(placement: Placement, role: Role) -> dict[str, Any]:
    memory = f"{round(placement.memory_gb * 1000)}M"
    limits = {"cpu": _cores(placement.cpu), "memory": memory}
    requests = {"cpu": _cores(placement.cpu_request or placement.cpu), "memory": memory}
    devices = {name: str(count) for name, count in role.resource.devices.items()}
    if placement.gpus:
        devices[placement.gpu_resource] = str(placement.gpus)
    # Kubernetes wants equal requests and limits for devices.
    return {"requests": requests | devices, "limits": limits | devices}


def _cores(cpu: float) -> str:
    return f"{round(cpu * 1000)}m"


def _patch(placement: Placement, role: Role, identity: Identity) -> dict[str, Any]:
    """What a TrainJob changes in the pods of its runtime."""
    spec: dict[str, Any] = {}
    if placement.service_account:
        spec["serviceAccountName"] = placement.service_account
    selector = dict(placement.node_selector)
    if INSTANCE_TYPE in role.resource.capabilities:
        selector.setdefault(INSTANCE_TYPE, role.resource.capabilities[INSTANCE_TYPE])
    if selector:
        spec["nodeSelector"] = selector
    if placement.tolerations:
        spec["tolerations"] = list(placement.tolerations)
    if placement.affinity:
        spec["affinity"] = dict(placement.affinity)
    if role.mounts:
        volumes = [_volume(f"mount-{index}", mount) for index, mount in enumerate(role.mounts)]
        spec["volumes"] = [volume for volume, _ in volumes]
        spec["containers"] = [{"name": names.NODE, "volumeMounts": [place for _, place in volumes]}]
    template = {"metadata": {"labels": dict(identity.labels)}, "spec": spec}
    job = {"name": names.NODE, "template": {"spec": {"template": template}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}


def _volume(name: str, mount: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    from torchx.specs import BindMount, VolumeMount

    if isinstance(mount, VolumeMount):
        source = {"persistentVolumeClaim": {"claimName": mount.src}}
    elif isinstance(mount, BindMount):
        source = {"hostPath": {"path": mount.src_path}}
    else:
        raise ZoetropeError(
            f"mount of {mount.dst_path}: a TrainJob mounts volumes and folders, no devices",
            "ask for the device as a resource",
        )
    place = {"name": name, "mountPath": mount.dst_path, "readOnly": mount.read_only}
    return {"name": name, **source}, place
