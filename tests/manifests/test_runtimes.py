"""TrainingRuntimes: what Trainer's API takes, and how each failure is answered."""

import re

import pytest
from kubeflow_trainer_api import models

RUNTIMES = ("zoetrope-torch-cpu", "zoetrope-torch-gpu", "zoetrope-plain")
SPECIFIED = models.TrainerV1alpha1TrainingRuntime
EXIT = "Container node for pod kubeflow/z1-node-0-0-abcde failed with exit code {} matching FailJob rule at index 1"
DISRUPTED = "Pod kubeflow/z1-node-0-1-abcde has condition DisruptionTarget matching FailJob rule at index 0"


def unknown_fields(given, kept, path=""):
    """Fields that went in and did not come out: the generated models drop what they do not know without a word."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            here = f"{path}.{key}".lstrip(".")
            if key not in kept:
                yield here
            else:
                yield from unknown_fields(value, kept[key], here)
    elif isinstance(given, list) and isinstance(kept, list):
        for number, pair in enumerate(zip(given, kept, strict=True)):
            yield from unknown_fields(*pair, f"{path}[{number}]")


def check(document):
    return list(unknown_fields(document, SPECIFIED.from_dict(document).to_dict()))


def job(document):
    (replicated,) = document["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_has_only_fields_that_trainer_knows(installation, name):
    assert check(installation.one("TrainingRuntime", name)) == []


def test_a_field_that_trainer_does_not_know_is_found(dev):
    document = dev.one("TrainingRuntime", "zoetrope-plain")
    spec = document["spec"]
    assert check(document | {"spec": spec | {"podTemplateOverrides": []}}) == ["spec.podTemplateOverrides"]
    nested = job(document) | {"backofLimit": 1}
    template = {"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": nested}}]}}
    assert check(document | {"spec": {"template": template}}) == [
        "spec.template.spec.replicatedJobs[0].template.spec.backofLimit"
    ]


def test_the_runtimes_are_these(installation):
    assert {document["metadata"]["name"] for document in installation.of("TrainingRuntime")} == set(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_trainer_finds_its_job_and_container(installation, name):
    (replicated,) = installation.one("TrainingRuntime", name)["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    assert replicated["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    assert [c["name"] for c in replicated["template"]["spec"]["template"]["spec"]["containers"]] == ["node"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_no_runtime_has_a_ttl(installation, name):
    """A JobSet that a TTL deletes is created again by Trainer with its restarts at zero, for ever."""
    assert "ttl" not in str(installation.one("TrainingRuntime", name)).lower()


@pytest.mark.parametrize("name", RUNTIMES)
def test_pods_have_time_scratch_space_settings_and_no_token(installation, name):
    pod = job(installation.one("TrainingRuntime", name))["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["restartPolicy"] == "Never"
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("zoetrope-job", False)
    assert mounts["/tmp"]["emptyDir"] == {}
    assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    assert container["envFrom"] == [
        {"configMapRef": {"name": "zoetrope-settings", "optional": True}},
        {"secretRef": {"name": "zoetrope-store", "optional": True}},
    ]


@pytest.mark.parametrize("name", RUNTIMES)
def test_reserved_variables_are_left_to_trainer(installation, name):
    (container,) = job(installation.one("TrainingRuntime", name))["template"]["spec"]["containers"]
    assert not [variable["name"] for variable in container["env"] if variable["name"].startswith(("PET_", "JOB_"))]


def answer(runtime, reason, message):
    """What JobSet does about a Job that failed like this (first rule whose reason and pattern fit)."""
    for rule in runtime["spec"]["template"]["spec"]["failurePolicy"]["rules"]:
        reasons, patterns = rule.get("onJobFailureReasons", []), rule.get("onJobFailureMessagePatterns", [])
        if (not reasons or reason in reasons) and (not patterns or any(re.search(p, message) for p in patterns)):
            return rule["action"]
    return "RestartJobSet"  # JobSet's default


@pytest.mark.parametrize("name", RUNTIMES[:2])
@pytest.mark.parametrize(
    ("reason", "message", "action"),
    [
        ("PodFailurePolicy", DISRUPTED, "RestartJobSetAndIgnoreMaxRestarts"),
        ("PodFailurePolicy", EXIT.format(75), "RestartJobSet"),
        ("PodFailurePolicy", EXIT.format(143), "RestartJobSet"),
        ("PodFailurePolicy", EXIT.format(2), "FailJobSet"),
        ("PodFailurePolicy", EXIT.format(1), "FailJobSet"),
        ("PodFailurePolicy", EXIT.format(137), "FailJobSet"),
        ("PodFailurePolicy", EXIT.format(175), "FailJobSet"),
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit", "FailJobSet"),
        ("DeadlineExceeded", "Job was active longer than specified deadline", "FailJobSet"),
    ],
)
def test_a_distributed_job_is_made_anew_for_the_platforms_failures_only(dev, name, reason, message, action):
    assert answer(dev.one("TrainingRuntime", name), reason, message) == action


@pytest.mark.parametrize("name", RUNTIMES[:2])
def test_a_distributed_job_has_no_second_pod_beside_the_first(dev, name):
    """No pod is replaced alone: its peers wait for the one that is gone."""
    spec = job(dev.one("TrainingRuntime", name))
    assert spec["backoffLimit"] == 0
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert dev.one("TrainingRuntime", name)["spec"]["mlPolicy"]["torch"] == {}


def worker(runtime, code=None, disrupted=False):
    """What the Job does about one failed pod."""
    for rule in job(runtime)["podFailurePolicy"]["rules"]:
        if disrupted and any(c["type"] == "DisruptionTarget" for c in rule.get("onPodConditions", [])):
            return rule["action"]
        if codes := rule.get("onExitCodes"):
            listed = code in codes["values"]
            if listed == (codes["operator"] == "In"):
                return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    ("code", "disrupted", "action"),
    [
        (143, True, "Ignore"),
        (75, False, "Count"),
        (143, False, "Count"),
        (2, False, "FailJob"),
        (137, False, "FailJob"),
    ],
)
def test_a_lost_data_worker_is_made_anew_alone(dev, code, disrupted, action):
    runtime = dev.one("TrainingRuntime", "zoetrope-plain")
    assert worker(runtime, code, disrupted) == action
    assert job(runtime)["completionMode"] == "Indexed"
    assert job(runtime)["maxFailedIndexes"] == 0
    assert answer(runtime, "PodFailurePolicy", EXIT.format(2)) == "FailJobSet"
    assert set(runtime["spec"]["mlPolicy"]) == {"numNodes"}


def test_the_gpu_runtime_leaves_the_resource_to_the_job_and_sets_nccl(dev):
    pod = job(dev.one("TrainingRuntime", "zoetrope-torch-gpu"))["template"]["spec"]
    (container,) = pod["containers"]
    assert "resources" not in container
    assert {"NCCL_DEBUG", "NCCL_SOCKET_IFNAME"} <= {variable["name"] for variable in container["env"]}
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["nvidia.com/gpu"]
