"""The TorchX scheduler as TorchX uses it."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from torchx.components.dist import torchrun
from torchx.runner import Runner
from torchx.specs import AppDef, AppState, Resource, Role

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch.trainjob.scheduler import create_scheduler, state_of

ROOT = Path(__file__).parents[4]


@pytest.fixture
def runner(api_server):
    scheduler = create_scheduler("session", cluster=api_server.client())
    with Runner("session", {"trainjob": lambda *_, **__: scheduler}) as runner:
        yield runner


def app(**fields):
    fields = {"resource": Resource(cpu=1, gpu=0, memMB=500), **fields}
    return AppDef("My App", roles=[Role("trainer", image="image", entrypoint="python", **fields)])


def the_job(api_server):
    (job,) = (item for (kind, _), item in api_server.objects.items() if kind == "trainjobs")
    return job


def test_the_entry_point_makes_the_scheduler():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["torchx.schedulers"]["trainjob"].partition(":")
    assert getattr(import_module(module), name) is create_scheduler


def test_the_torchx_command_tells_a_mistake_without_a_traceback(tmp_path):
    command = [str(Path(sys.executable).parent / "torchx"), "list", "-s", "trainjob"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\ntorchx: kubeconfig: " in f"\n{done.stderr}"


def test_options_are_typed_and_described(runner):
    options = runner.scheduler_run_opts("trainjob")
    for name, option in options:
        assert option.help != name
    assert {name for name, _ in options} >= {"namespace", "context", "runtime", "queue", "deadline", "gpu_resource"}
    assert options.get("deadline").opt_type is int


def test_a_job_is_submitted_with_its_options(runner, api_server):
    cfg = {
        "runtime": "mine", "queue": "team", "service_account": "me", "node_selector": ["pool=a", "zone=b"],
        "tolerations": ["gpu", "team=x:NoSchedule"], "deadline": 60, "gpu_resource": "amd.com/gpu",
        "cpu_request": "50m",
    }  # fmt: skip
    resource = Resource(cpu=4, gpu=2, memMB=8000)
    handle = runner.run(app(num_replicas=3, resource=resource), "trainjob", cfg)
    job = the_job(api_server)
    assert handle == f"trainjob://session/test:{job['metadata']['name']}"
    assert job["metadata"]["name"].startswith("my-app-")
    assert job["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "torchx"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert job["spec"]["runtimeRef"]["name"] == "mine"
    assert job["spec"]["activeDeadlineSeconds"] == 60
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == 3
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4000m", "memory": "8000M", "amd.com/gpu": "2"}
    assert trainer["resourcesPerNode"]["requests"]["cpu"] == "50m"
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["template"]["spec"]["template"]["spec"] == {
        "serviceAccountName": "me",
        "nodeSelector": {"pool": "a", "zone": "b"},
        "tolerations": [
            {"key": "gpu", "operator": "Exists"},
            {"key": "team", "operator": "Equal", "value": "x", "effect": "NoSchedule"},
        ],
    }


def test_two_jobs_of_one_app_have_two_names(runner):
    assert runner.run(app(), "trainjob") != runner.run(app(), "trainjob")


def test_processes_are_those_of_torchrun(runner, api_server):
    runner.run(torchrun(script="train.py", j="2x8", image="i"), "trainjob", {"cluster_runtime": True})
    assert the_job(api_server)["spec"]["trainer"]["numProcPerNode"] == 8
    assert the_job(api_server)["spec"]["runtimeRef"]["kind"] == "ClusterTrainingRuntime"


def test_a_dry_run_makes_nothing_and_shows_the_job(runner, api_server):
    info = runner.dryrun(app(), "trainjob")
    assert json.loads(str(info))["kind"] == "TrainJob"
    assert api_server.objects == {}


def test_an_owner_that_is_not_there_is_said(runner):
    with pytest.raises(ZoetropeError, match="no such Workflow"):
        runner.run(app(), "trainjob", {"owner": "flow"})


@pytest.mark.parametrize("cfg", [{"node_selector": ["pool"]}, {"cpu_request": "many"}])
def test_options_that_mean_nothing_are_said(runner, cfg):
    with pytest.raises(ZoetropeError, match=r"pool|many"):
        runner.run(app(), "trainjob", cfg)


def test_status_shows_each_replica(runner, api_server, make):
    handle = runner.run(app(num_replicas=2), "trainjob")
    name = the_job(api_server)["metadata"]["name"]
    assert runner.status(handle).state == AppState.SUBMITTED
    for index, phase in ((1, "Pending"), (0, "Running")):
        api_server.put("pods", make.pod(index, phase, job=name, attempt="1", uid=None))
    status = runner.status(handle)
    assert status.state == AppState.RUNNING
    (role,) = status.roles
    assert [(replica.id, replica.state) for replica in role.replicas] == [(0, AppState.RUNNING), (1, AppState.PENDING)]
    assert role.role == "trainer"
    api_server.condition(name, "Failed", message="jobset failed")
    assert runner.status(handle).state == AppState.FAILED
    assert runner.status(handle).msg == "jobset failed"


def test_status_says_why_pods_do_not_start(runner, api_server, make):
    handle = runner.run(app(), "trainjob")
    name = the_job(api_server)["metadata"]["name"]
    assert runner.status(handle).msg == ""
    condition = make.condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available: no GPU.")
    api_server.put("pods", make.pod(0, "Pending", job=name, attempt="1", uid=None, conditions=[condition]))
    assert "no GPU" in runner.status(handle).msg


def test_what_is_not_there_has_no_status(runner):
    assert runner.status("trainjob://session/test:none") is None


def test_all_jobs_are_listed(runner, api_server):
    runner.run(app(), "trainjob")
    runner.run(app(), "trainjob")
    listed = runner.list("trainjob")
    assert {each.name for each in listed} == {"My App"}
    assert all(each.app_id.startswith("test:my-app-") for each in listed)


def test_cancel_stops_the_pods_and_keeps_the_job(runner, api_server):
    handle = runner.run(app(), "trainjob")
    runner.cancel(handle)
    assert the_job(api_server)["spec"]["suspend"] is True
    assert runner.status(handle).state == AppState.CANCELLED
    runner.cancel(handle)


def test_cancel_of_a_queued_job_deletes_it_since_its_queue_would_start_it_again(runner, api_server):
    handle = runner.run(app(), "trainjob", {"queue": "team"})
    runner.cancel(handle)
    assert api_server.objects == {}
    assert runner.status(handle) is None


def test_cancel_leaves_a_finished_job_alone(runner, api_server):
    handle = runner.run(app(), "trainjob")
    api_server.condition(the_job(api_server)["metadata"]["name"], "Complete")
    runner.cancel(handle)
    assert runner.status(handle).state == AppState.SUCCEEDED


def test_delete_removes_the_job(runner, api_server):
    runner.delete(runner.run(app(), "trainjob"))
    assert api_server.objects == {}


def test_logs_of_each_replica(runner, api_server, make):
    handle = runner.run(app(num_replicas=2), "trainjob")
    name = the_job(api_server)["metadata"]["name"]
    for index in range(2):
        pod = api_server.put("pods", make.pod(index, "Succeeded", job=name, uid=None))
        api_server.write(pod["metadata"]["name"], f"hello from {index}", "bye")
    api_server.condition(name, "Complete")
    for index in range(2):
        lines = list(runner.log_lines(handle, "trainer", index, should_tail=True))
        assert lines == [f"hello from {index}\n", "bye\n"]
    assert list(runner.log_lines(handle, "trainer", 0, regex="hel+o")) == ["hello from 0\n"]


@pytest.mark.parametrize(
    ("conditions", "suspend", "state"),
    [
        (["Complete"], False, AppState.SUCCEEDED),
        (["Failed"], False, AppState.FAILED),
        (["Suspended"], False, AppState.PENDING),
        ([], True, AppState.PENDING),
        ([], False, AppState.SUBMITTED),
    ],
)
def test_states(make, conditions, suspend, state):
    job = make.job(conditions=[make.condition(name) for name in conditions], suspend=suspend)
    assert state_of(job, []) == state


def test_a_script_that_knows_nothing_of_us_is_one_app_here_and_there(runner, api_server, tmp_path):
    (tmp_path / "plain.py").write_text("print('hello')")
    made = torchrun(script=str(tmp_path / "plain.py"), j="1x1", image="i")
    here = runner.dryrun(made, "trainjob").request["spec"]["trainer"]
    assert here["command"] == ["bash"]
    assert here["args"][0] == "-c"
    assert str(tmp_path / "plain.py") in here["args"][1]
