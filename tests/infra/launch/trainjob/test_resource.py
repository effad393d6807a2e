"""An AppDef and a placement become a TrainJob that Trainer takes."""

import re
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from pydantic import BaseModel
from torchx.components.dist import torchrun
from torchx.specs import AppDef, BindMount, DeviceMount, Resource, Role, VolumeMount

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import STOP_FIRST
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.resource import REPLICA, Identity, literal, owner_reference, trainjob
from zoetrope.infra.placement import Placement

IDENTITY = Identity(name="zabc", namespace="team", labels={"zoetrope/run": "r"}, annotations={"zoetrope/digest": "d"})


def app(*arguments, **fields):
    role = Role("worker", image="role-image", entrypoint="python", args=list(arguments), **fields)
    return AppDef("job", roles=[role])


def unknown_fields(model, value, path=""):
    """Paths in `value` that the model does not know; pydantic lets them pass."""
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for key, item in value.items():
        if key not in fields:
            yield f"{path}.{key}"
            continue
        inner = next(models_in(fields[key]), None)
        for each in item if isinstance(item, list) else [item]:
            if inner is not None and isinstance(each, dict):
                yield from unknown_fields(inner, each, f"{path}.{key}")


def models_in(annotation):
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel) and annotation.model_fields:
            yield annotation
        return
    if typing.get_origin(annotation) is dict:  # quantities, labels: free keys
        return
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def check(job):
    assert list(unknown_fields(TrainerV1alpha1TrainJob, job)) == []
    TrainerV1alpha1TrainJob.from_dict(job)
    names.check_name(job["metadata"]["name"])
    for value in job["metadata"]["labels"].values():
        assert names.label_value(value) == value  # which is so for valid ones alone
    assert not names.RESERVED_ENVIRONMENT & {variable["name"] for variable in job["spec"]["trainer"]["env"]}
    return job


def pod_patch(job):
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    return replicated["template"]["spec"]["template"]


def test_the_checker_finds_unknown_fields():
    job = trainjob(app("a"), Placement(), IDENTITY)
    job["spec"]["trainer"]["gpus"] = 1
    pod_patch(job)["spec"]["nodeSelectors"] = {}
    assert list(unknown_fields(TrainerV1alpha1TrainJob, job)) == [
        ".spec.trainer.gpus",
        ".spec.runtimePatches.trainingRuntimeSpec.template.spec.replicatedJobs.template.spec.template.spec.nodeSelectors",
    ]


PLACEMENTS = st.builds(
    Placement,
    image=st.sampled_from(["", "registry/image@sha256:1"]),
    cpu=st.floats(0.01, 200),
    cpu_request=st.sampled_from([0.0, 0.05, 3]),
    memory_gb=st.floats(0.01, 2000),
    gpus=st.integers(0, 8),
    gpu_resource=st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]),
    processes_per_node=st.integers(1, 8),
    queue=st.sampled_from(["", "team-a"]),
    node_selector=st.sampled_from([{}, {"pool": "gpu"}]),
    tolerations=st.sampled_from([[], [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]]),
    affinity=st.sampled_from([{}, {"nodeAffinity": {}}]),
    service_account=st.sampled_from(["", "zoetrope-job"]),
    deadline=st.integers(1, 10**6),
)


@given(PLACEMENTS, st.integers(1, 64), st.lists(st.text(max_size=20), max_size=3), st.booleans())
def test_every_placement_gives_a_valid_job(placement, nodes, arguments, mounted):
    mounts = [VolumeMount("claim", "/data"), BindMount("/src", "/dst", read_only=True)] if mounted else []
    arguments = [argument.replace("\x00", "") for argument in arguments]
    job = check(trainjob(app(*arguments, num_replicas=nodes, mounts=mounts), placement, IDENTITY, {"A": "b"}))
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == nodes
    assert trainer["numProcPerNode"] == placement.processes_per_node
    assert trainer["image"] == (placement.image or "role-image")
    assert job["spec"]["activeDeadlineSeconds"] == placement.deadline
    for kind in ("requests", "limits"):
        devices = {key: value for key, value in trainer["resourcesPerNode"][kind].items() if "/" in key}
        assert devices == ({placement.gpu_resource: str(placement.gpus)} if placement.gpus else {})
    assert (job["metadata"]["labels"].get(names.QUEUE) or "") == placement.queue


def test_where_and_as_whom_it_runs():
    placement = Placement(
        cpu=4, cpu_request=0.1, memory_gb=16, node_selector={"pool": "a"}, tolerations=[{"operator": "Exists"}],
        affinity={"nodeAffinity": {}}, runtime="mine",
    )  # fmt: skip
    flow = {"metadata": {"name": "flow", "uid": "u-1"}}
    identity = IDENTITY.model_copy(update={"owner": owner_reference(flow)})
    job = check(trainjob(app("x"), placement, identity))
    assert job["spec"]["runtimeRef"] == {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "mine"}
    assert job["spec"]["trainer"]["resourcesPerNode"] == {
        "requests": {"cpu": "100m", "memory": "16000M"},
        "limits": {"cpu": "4000m", "memory": "16000M"},
    }
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("Workflow", "flow", "u-1", False)
    assert "finalizers" not in job["metadata"]
    held = check(trainjob(app("x"), placement, identity.model_copy(update={"stop_first": True})))
    assert held["metadata"]["finalizers"] == [STOP_FIRST]
    pod = pod_patch(job)
    assert pod["metadata"]["labels"] == {"zoetrope/run": "r"}
    assert pod["spec"] == {
        "serviceAccountName": "zoetrope-job",
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }


def test_mounts_devices_and_kinds_of_machines_of_the_role():
    resource = Resource(
        cpu=1, gpu=0, memMB=1, devices={"vpc.amazonaws.com/efa": 4},
        capabilities={"node.kubernetes.io/instance-type": "p5"},
    )  # fmt: skip
    mounts = [VolumeMount("claim", "/data", read_only=True)]
    job = check(trainjob(app(resource=resource, mounts=mounts, max_retries=2), Placement(), IDENTITY))
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["vpc.amazonaws.com/efa"] == "4"
    assert job["metadata"]["annotations"]["zoetrope/max-retries"] == "2"
    spec = pod_patch(job)["spec"]
    assert spec["nodeSelector"] == {"node.kubernetes.io/instance-type": "p5"}
    assert spec["volumes"] == [{"name": "mount-0", "persistentVolumeClaim": {"claimName": "claim"}}]
    place = {"name": "mount-0", "mountPath": "/data", "readOnly": True}
    assert spec["containers"] == [{"name": "node", "volumeMounts": [place]}]


def test_macros_of_torchx():
    arguments = ["${app_id}", "${replica_id}", "$${HOME}", "${rank0_env}"]
    job = check(trainjob(app(*arguments, env={"MINE": "n${replica_id}"}), Placement(), IDENTITY))
    trainer = job["spec"]["trainer"]
    assert trainer["args"] == ["zabc", f"$({REPLICA})", "${HOME}", "TORCHX_RANK0_HOST"]
    variables = {variable["name"]: variable for variable in trainer["env"]}
    assert variables["TORCHX_RANK0_HOST"]["value"] == "zabc-node-0-0.zabc"
    assert variables["MINE"]["value"] == f"n$({REPLICA})"
    # Kubernetes expands only what was defined before.
    assert trainer["env"][0]["name"] == REPLICA
    assert "fieldRef" in trainer["env"][0]["valueFrom"]


def test_torchrun_meets_at_node_0():
    job = check(trainjob(torchrun(script="train.py", j="2x8", image="i"), Placement(), IDENTITY))
    assert job["spec"]["trainer"]["numNodes"] == 2
    command = job["spec"]["trainer"]["args"][1]
    assert "--rdzv_endpoint ${TORCHX_RANK0_HOST:=localhost}:29500" in command
    assert "--nnodes 2 --nproc_per_node 8" in command


def test_the_role_wins_over_the_environment_of_the_call():
    job = trainjob(app(env={"A": "role"}), Placement(), IDENTITY, {"A": "call", "B": "call"})
    values = {variable["name"]: variable.get("value") for variable in job["spec"]["trainer"]["env"]}
    assert (values["A"], values["B"]) == ("role", "call")


def expanded(text, variables):
    """What Kubernetes makes of a command."""

    def replace(match):
        if match[0] == "$$":
            return "$"
        return variables.get(match[0][2:-1], match[0])

    return re.sub(r"\$\$|\$\([^)]*\)", replace, text)


@given(st.text(alphabet="$()A {}\"'b", max_size=30))
def test_text_comes_out_of_kubernetes_as_it_went_in(text):
    assert expanded(literal(text), {"A": "expanded!", "": "expanded!"}) == text


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (AppDef("a", roles=[Role("x", image="i"), Role("y", image="i")]), "2 roles"),
        (app(num_replicas=0), "no replicas"),
        (app(env={"PET_NNODES": "2"}), "PET_NNODES"),
        (app(mounts=[DeviceMount("/dev/a", "/dev/a")]), "no devices"),
    ],
)
def test_what_cannot_be_a_trainjob_is_said(made, message):
    with pytest.raises(ZoetropeError, match=message):
        trainjob(made, Placement(), IDENTITY)
