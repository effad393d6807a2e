"""The checks of a cluster against a small Kubernetes API: each fault is named, and how to fix it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from zoetrope.infra.doctor import CHECKS, CheckContext, Demand, Finding, examine
from zoetrope.infra.doctor.inside import inside
from zoetrope.infra.doctor.quantities import number
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubeflow import KubeflowSettings

NAMESPACE = "/api/v1/namespaces/runs"
STAGE = Demand("stage_1", pods=2, cpu=2, memory_gb=4, runtime="zoetrope-torch-cpu")


def found(context: CheckContext) -> list[Finding]:
    return list(examine(context, before_submit=True))


def problems(findings: list[Finding]) -> list[tuple[str, str]]:
    for finding in findings:
        assert finding.status == "ok" or finding.hint or finding.status == "unknown", finding
        assert "\n" not in finding.detail + finding.hint
    return [(finding.check, finding.detail) for finding in findings if finding.status == "problem"]


@pytest.fixture(autouse=True)
def _registry_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoetrope.infra.images.container_registry.digest_exists", lambda image: "present" in image)
    monkeypatch.setattr("zoetrope.infra.doctor.inside.time.sleep", lambda seconds: None)


def test_every_check_says_something_of_a_healthy_cluster_and_finds_nothing(kubernetes: Any) -> None:
    kubernetes.log = '[\n {"check": "store", "status": "ok", "detail": "written", "hint": ""}\n]'
    context = kubernetes.context(STAGE, images={"core": "r/present"})
    findings = [*examine(context)]
    assert problems(findings) == []
    names = {finding.check for finding in findings}
    assert {*CHECKS} - names == {"limit ranges", "inside"}  # no limit range there; the pod's findings have own names
    assert Finding("inside: store", "ok", "written") in findings
    assert [finding.check for finding in findings if finding.status == "unknown"] == ["kubeflow pipelines"]


def test_looking_before_a_submission_creates_nothing(kubernetes: Any) -> None:
    assert problems(found(kubernetes.context(STAGE, images={"core": "r/present"}))) == []
    assert [line for line in kubernetes.requests if not line.startswith("GET ")] == []


def test_values_of_secrets_are_never_printed(kubernetes: Any) -> None:
    text = repr([*examine(kubernetes.context(STAGE))])
    assert "AWS_SECRET_ACCESS_KEY" in text
    assert "hunter2" not in text and "aHVudGVyMg" not in text


def drop(path: str) -> Callable[[Any], None]:
    return lambda kubernetes: kubernetes.objects.pop(path)


def put(path: str, value: Any) -> Callable[[Any], None]:
    return lambda kubernetes: kubernetes.objects.update({path: value})


def quota(**hard: str) -> Callable[[Any], None]:
    named = {name.replace("__", "."): value for name, value in hard.items()}
    return put(f"{NAMESPACE}/resourcequotas", {"items": [{"metadata": {"name": "q"}, "spec": {"hard": named}}]})


def limit(**most: str) -> Callable[[Any], None]:
    limits = [{"type": "Container", "max": most}]
    return put(f"{NAMESPACE}/limitranges", {"items": [{"metadata": {"name": "l"}, "spec": {"limits": limits}}]})


def images_of(**change: str) -> Callable[[Any], None]:
    def turn(kubernetes: Any) -> None:
        for item in kubernetes.objects["/apis/apps/v1/deployments"]["items"]:
            for name, image in change.items():
                if item["metadata"]["name"] == name.replace("_", "-"):
                    item["spec"]["template"]["spec"]["containers"][0]["image"] = image

    return turn


FAULTS: list[tuple[str, Callable[[Any], None], str]] = [
    ("kubernetes", put("/version", {"gitVersion": "v1.25.4"}), "version v1.25.4 is too old"),
    ("namespace", drop(NAMESPACE), "there is no namespace runs"),
    ("custom resources", drop("/apis/trainer.kubeflow.org/v1alpha1"), "missing CRD: trainjobs of trainer.kubeflow.org"),
    ("custom resources", drop("/apis/jobset.x-k8s.io/v1alpha2"), "missing CRD: jobsets"),
    ("custom resources", drop("/apis/argoproj.io/v1alpha1"), "missing CRD: workflows"),
    ("service accounts", drop(f"{NAMESPACE}/serviceaccounts/zoetrope-job"), "there is no service account zoetrope-job"),
    ("settings", drop(f"{NAMESPACE}/configmaps/zoetrope-settings"), "there is no configmap zoetrope-settings"),
    ("settings", put(f"{NAMESPACE}/configmaps/zoetrope-settings", {"data": {}}), "the key ZOETROPE_STORE is missing"),
    ("runtimes", put("/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainingruntimes", {"items": []}),
     "there is no TrainingRuntime zoetrope-torch-cpu"),
    ("quotas", quota(requests__cpu="4"), "quota q is too small: step stage_1 needs 4.05 requests.cpu, it allows 4"),
    ("quotas", quota(requests__memory="8G"), "needs 8.27 GB of requests.memory, it allows 8 GB"),
    ("quotas", quota(limits__memory="9G"), "needs 10.15 GB of limits.memory, it allows 9 GB"),
    ("quotas", quota(pods="2"), "needs 3 pods, it allows 2"),
    ("limit ranges", limit(memory="2Gi"), "step stage_1 needs 4 GB of memory in one pod, it allows 2.14748 GB"),
]  # fmt: skip
LATER: list[tuple[str, Callable[[Any], None], str]] = [
    ("controllers", images_of(jobset_controller_manager="x/jobset:v0.8.1"), "JobSet v0.8.1 is too old"),
    ("controllers", images_of(kubeflow_trainer_controller_manager="x/trainer:v2.1.0"), "Trainer v2.1.0 is too old"),
    ("controllers", images_of(workflow_controller="x/argo:v3.4.0"), "Argo v3.4.0 is too old"),
    ("controllers", put("/apis/apps/v1/deployments", {"items": []}), "Trainer: no deployment"),
    ("secrets", drop(f"{NAMESPACE}/secrets/zoetrope-store"), "there is no secret zoetrope-store"),
    ("secrets", put(f"{NAMESPACE}/secrets/zoetrope-store", {"data": {"AWS_ACCESS_KEY_ID": ""}}),
     "zoetrope-store: the key AWS_SECRET_ACCESS_KEY is missing"),
    ("secrets", put("/apis/apps/v1/namespaces/runs/statefulsets/zoetrope-postgresql", {"metadata": {}}),
     "zoetrope-mlflow: the key POSTGRES_PASSWORD is missing"),
    ("nodes", put("/api/v1/nodes", {"items": [{"status": {"allocatable": {"cpu": "1", "memory": "32Gi"}}}]}),
     "no node has room for a pod of stage_1: 2 cpu, 4 GB of memory"),
    ("mlflow", drop(f"{NAMESPACE}/services/zoetrope-mlflow:5000/proxy/health"), "there is no service zoetrope-mlflow"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "fault", "detail"), FAULTS)
def test_a_fault_stops_a_submission(kubernetes: Any, check: str, fault: Callable[[Any], None], detail: str) -> None:
    fault(kubernetes)
    (problem,) = problems(found(kubernetes.context(STAGE)))
    assert problem[0] == check
    assert detail in problem[1]


@pytest.mark.parametrize(("check", "fault", "detail"), LATER)
def test_a_fault_is_found_by_the_doctor_alone(
    kubernetes: Any, check: str, fault: Callable[[Any], None], detail: str
) -> None:
    fault(kubernetes)
    assert problems(found(kubernetes.context(STAGE))) == []
    named = [text for name, text in problems([*examine(kubernetes.context(STAGE))]) if name == check]
    assert any(detail in text for text in named)


def test_denied_rights_are_named(kubernetes: Any) -> None:
    kubernetes.denied = {"list pods", "create trainjobs"}
    told = problems([*examine(kubernetes.context())])
    assert ("our rights", "may not list pods") in told
    assert ("rights of the steps", "zoetrope-runner may not create trainjobs of trainer.kubeflow.org") in told
    assert ("rights of the steps", "zoetrope-runner may not list pods") in told


def test_what_we_may_not_read_is_unknown_and_no_problem(kubernetes: Any) -> None:
    kubernetes.forbidden = {
        NAMESPACE, "/apis/apps/v1/deployments", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "/api/v1/nodes",
        f"{NAMESPACE}/secrets/zoetrope-store", f"{NAMESPACE}/resourcequotas", f"{NAMESPACE}/pods",
        f"{NAMESPACE}/services/zoetrope-mlflow:5000/proxy/health",
    }  # fmt: skip
    findings = [*examine(kubernetes.context(STAGE, images={"core": "r/present"}))]
    assert problems(findings) == []
    unknown = {finding.check for finding in findings if finding.status == "unknown"}
    assert unknown == {
        "namespace", "controllers", "kubeflow pipelines", "rights of the steps", "secrets", "quotas", "nodes",
        "mlflow", "inside",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "the login has expired (401)"), (500, "the reason (500)"), (0, "no answer")]
)
def test_an_api_server_that_does_not_answer_is_one_problem(kubernetes: Any, status: int, reason: str) -> None:
    kubernetes.status = status
    if not status:
        kubernetes.url = "http://127.0.0.1:1"
    findings = found(kubernetes.context(STAGE))
    (problem,) = problems(findings)
    assert problem[0] == "kubernetes"
    assert reason in problem[1]
    assert len(kubernetes.requests) <= 1


def test_no_kubeconfig_leaves_the_rest_to_be_looked_at() -> None:
    context = CheckContext("runs", ZoetropeError("no kubeconfig", "set KUBECONFIG"), images={"core": "r/absent"})
    told = problems(found(context))
    assert told == [("kubernetes", "no kubeconfig"), ("images", "core: the registry has no r/absent")]


def test_a_registry_out_of_reach_is_unknown(kubernetes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(image: str) -> bool:
        raise ZoetropeError("registry r does not answer", "try later", retryable=True)

    monkeypatch.setattr("zoetrope.infra.images.container_registry.digest_exists", away)
    findings = [each for each in found(kubernetes.context(images={"core": "r/x"})) if each.check == "images"]
    assert [each.status for each in findings] == ["unknown"]


def test_a_kubeflow_out_of_reach_is_a_problem(kubernetes: Any) -> None:
    settings = KubeflowSettings(host="http://127.0.0.1:1")
    told = dict(problems([*examine(kubernetes.context(kubeflow=settings))]))
    assert "connection refused" in told["kubeflow pipelines"]


def test_the_pod_is_restricted_uses_what_steps_use_and_goes_away(kubernetes: Any) -> None:
    kubernetes.log = "a warning\n" + json.dumps(
        [{"check": "store", "status": "problem", "detail": "no such bucket", "hint": "make it"}], indent=1
    )
    (finding,) = inside(kubernetes.context(images={"core": "r/core@sha256:1"}))
    assert finding == Finding("inside: store", "problem", "no such bucket", "make it")
    pod = kubernetes.bodies[f"{NAMESPACE}/pods"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "r/core@sha256:1"
    assert pod["spec"]["serviceAccountName"] == "zoetrope-runner"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert kubernetes.requests[-1] == f"DELETE {NAMESPACE}/pods/{pod['metadata']['name']}"


@pytest.mark.parametrize(
    ("phases", "log", "reason"),
    [
        ([{"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}], "",
         "the image cannot be pulled: not found"),
        ([{"phase": "Failed"}], "Error: No such command 'doctor'.", "the pod said: Error: No such command 'doctor'."),
        ([{"phase": "Pending", "conditions": [{"status": "False", "message": "0/1 nodes are available"}]}], "",
         "the pod did not end within 120 s: 0/1 nodes are available"),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_look_is_a_problem_and_goes_away(
    kubernetes: Any, phases: list[dict[str, Any]], log: str, reason: str
) -> None:
    kubernetes.phases, kubernetes.log = phases, log
    (finding,) = inside(kubernetes.context(images={"core": "r/core"}))
    assert finding.status == "problem" and reason in finding.detail
    assert kubernetes.requests[-1].startswith("DELETE ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("2", 2), (3, 3), ("4Gi", 4 * 1024**3), ("1.5G", 1.5e9), ("1e3", 1000), ("odd", float("inf"))],
)
def test_quantities(text: object, value: float) -> None:
    assert number(text) == value
