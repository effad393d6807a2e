"""The launcher of a step as a process that is killed, against a small API server."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from zoetrope.infra.kubernetes.jobs import STOP_FIRST

FLOW = {"metadata": {"name": "flow"}, "spec": {}, "status": {"phase": "Running"}}

LAUNCHER = """
import sys
from pathlib import Path
from torchx.specs import AppDef, Role
from zoetrope.infra.launch import run_app
from zoetrope.infra.placement import Placement
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import open_store
folder = Path(sys.argv[1])
context = StepContext("train", open_store(folder / "store"), folder, folder, "run-1", placement=Placement())
app = AppDef("job", roles=[Role("worker", image="i", entrypoint="x", num_replicas=1)])
report = run_app(app, context, digest="d")
print(report.attempt)
"""


class Launcher:
    """The launcher of a step in a process of its own."""

    def __init__(self, server, folder):
        self.server = server
        server.put("workflows", FLOW)
        config = server.kubeconfig(folder / "kubeconfig")
        self.environment = {
            "PATH": "/usr/bin:/bin", "KUBECONFIG": str(config), "ZOETROPE_CLUSTER": "true", "ZOETROPE_RUN_ID": "run-1",
            "ZOETROPE_NAMESPACE": "test", "ZOETROPE_WORKFLOW": "flow", "ZOETROPE_IMAGE": "registry/train@sha256:1",
        }  # fmt: skip
        self.folder = folder

    def start(self):
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        command = [sys.executable, "-c", LAUNCHER, str(self.folder)]
        return subprocess.Popen(command, env={**self.environment, **path}, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_death_of_the_launcher_alone_leaves_the_job_to_the_next(api_server, make, tmp_path, number):
    launcher = Launcher(api_server, tmp_path)
    job = []

    def run(name):
        job.append(name)
        api_server.put("pods", make.pod(job=name, name="pod", uid=None))
        api_server.write("pod", "working")

    shot = threading.Event()
    api_server.on("POST", "trainjobs", run)
    api_server.on("GET", "log", lambda _: shot.set(), query="follow")
    first = launcher.start()
    assert shot.wait(60)
    before = len(api_server.requests)
    first.send_signal(number)
    first.wait(60)
    assert first.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    # A watch that was just being opened may still arrive; nothing else does.
    assert all(query.get("watch") for _, _, query in api_server.requests[before:])
    api_server.on("GET", "trainjobs", lambda _: api_server.condition(job[0], "Complete"), query="watch")
    second = launcher.start()
    assert second.communicate(timeout=60)[0].splitlines()[-1] == "1"
    assert api_server.made("POST").count("trainjobs") == 1
    assert api_server.made("DELETE") == []
    body = api_server.objects["trainjobs", job[0]]
    assert body["spec"]["trainer"]["image"] == "registry/train@sha256:1"
    assert body["metadata"]["labels"]["zoetrope/run"] == "run-1"
    assert body["metadata"]["finalizers"] == [STOP_FIRST]
    variables = {each["name"]: each.get("value") for each in body["spec"]["trainer"]["env"]}
    assert variables["ZOETROPE_JOB"] == job[0]
    assert variables["ZOETROPE_RUN_ID"] == "run-1"
    assert "ZOETROPE_POD" not in variables
