"""What else must work on a real cluster, beside the nano run; `make e2e`, docs/cluster-runs.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import cluster as e2e
from tests.e2e.cluster import IMAGES, NAMESPACE, Finished, Run, items, kubectl, zoetrope

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200), pytest.mark.usefixtures("cluster")]

ROOT = Path(__file__).parents[2]
WORKERS = (1, 4, 16)
AFTER_SECONDS, LAUNCHER_BYTES = 10.0, 200e6
Note = Any


def test_a_dataset_version_of_a_run_is_resolved_by_the_next(record_property: Note) -> None:
    known = e2e.version()
    given = ["--pipeline", "train", "--dataset", known["tag"], "--images", IMAGES, "--json", "--experiment", "e2e"]
    run_id = json.loads(zoetrope("submit", e2e.RECIPE, *given).stdout)["run"]
    record_property("run", run_id)
    try:
        plan = e2e.wait("the run is resolved", Finished(run_id).run_files.plan, 240)
        record_property("dataset", plan.dataset)
        assert (plan.dataset["tag"], plan.dataset["digest"]) == (known["tag"], known["digest"])
        assert plan.dataset["revision"].startswith(known["revision"])
    finally:
        zoetrope("runs", "cancel", run_id)


def torchx(*arguments: str) -> str:
    """Both streams of one call."""
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}  # torchrun, on this machine
    command = [str(tools / "torchx"), *arguments]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def greeting(scheduler: str, seconds: float, *options: str, image: str = "") -> str:
    """Starts the app; its handle."""
    app = [f"{Path(__file__).parent / 'greeting.py'}:greet", "--seconds", str(seconds)]
    said = torchx("run", "-s", scheduler, *options, *app, *(["--image", image] if image else []))
    found = re.search(rf"^{scheduler}://\S+", said, re.MULTILINE)
    assert found, said
    return found[0]


@pytest.fixture
def trainjob_app() -> Iterator[Any]:
    """Starts the app as a TrainJob, and removes it afterwards."""
    from zoetrope.infra.images.lock import read_images

    image = read_images(Path(IMAGES)).image("train")
    options = ["-cfg", f"namespace={NAMESPACE},cpu_request=50m"]
    made: list[str] = []

    def start(seconds: float) -> str:
        made.append(greeting("trainjob", seconds, *options, image=image))
        return made[-1]

    yield start
    for handle in made:
        kubectl("delete", "trainjob", handle.rpartition(":")[2], "--wait=false", check=False)


def said_by(log: str) -> list[str]:
    """The lines that the nodes wrote, each once."""
    return sorted(set(re.findall(r"node \d of 2 (?:begins|ends, weights \S+)", log)))


def state_of(handle: str) -> str:
    """TorchX's word."""
    found = re.search(r"State: (\w+)", torchx("status", handle))
    return found[1] if found else ""


def test_torchx_trains_with_the_same_app_on_both_schedulers(trainjob_app: Any, record_property: Note) -> None:
    handle = trainjob_app(3)
    e2e.wait("the app ends", lambda: state_of(handle) == "SUCCEEDED", 180)
    there = said_by(torchx("log", handle))
    record_property("said", there)
    assert [line.partition(",")[0] for line in there] == [
        f"node {rank} of 2 {word}" for rank in range(2) for word in ("begins", "ends")
    ]
    app = [f"{Path(__file__).parent / 'greeting.py'}:greet", "--seconds", "0"]
    assert said_by(torchx("run", "--wait", "--log", "-s", "local_cwd", *app)) == there


def test_torchx_cancels(trainjob_app: Any) -> None:
    handle = trainjob_app(600)
    e2e.wait("the app runs", lambda: state_of(handle) == "RUNNING", 180)
    # A first process that has not come to its signal handlers ignores SIGTERM for the runtime's two minutes.
    e2e.wait("the app says so", lambda: len(said_by(torchx("log", handle))) == 2, 60)
    torchx("cancel", handle)
    name = handle.rpartition(":")[2]
    e2e.wait("its pods are gone", lambda: not items("pods", f"jobset.sigs.k8s.io/jobset-name={name}"), 120)
    assert state_of(handle) == "CANCELLED"


def test_any_number_of_data_workers_makes_the_same_dataset(record_property: Note) -> None:
    digests = {}
    footage = [f"source.samples.films={WORKERS[-1]}"]  # as many films as workers
    footage += ["encode.clips_per_unit=1"]
    for number in WORKERS:
        sets = [f"{step}.workers={number}" for step in ("ingest", "curate", "encode")]
        sets += [f"resources.encode={{cpu: 2, memory_gb: {max(4, number)}}}"]  # all pods together; each holds PyTorch
        run = e2e.submitted("tests/recipes/tiny.yaml", *footage, *sets, pipeline="data", fresh=True)
        assert run.exit_code == 0, f"{number} workers: run {run.run_id}"
        jobs = items("trainjobs", f"zoetrope/run={run.run_id}")
        nodes = {job["metadata"]["labels"]["zoetrope/step"]: job["spec"]["trainer"]["numNodes"] for job in jobs}
        record_property(f"{number} workers", nodes)
        assert nodes["ingest"] == nodes["curate"] == number
        assert number / 2 < nodes["encode"] <= number  # of films that left a clip
        digests[number] = run.product("encode")["digest"]
    record_property("digest", digests[WORKERS[0]])
    assert len(set(digests.values())) == 1, digests


ACTIONS = yaml.safe_load((ROOT / "tests" / "manifests" / "actions.yaml").read_text())


@pytest.mark.parametrize("account", sorted(ACTIONS))
def test_accounts_may_do_what_they_must_and_no_more(account: str, record_property: Note) -> None:
    wrong = []
    for verdict, actions in ACTIONS[account].items():
        for action in actions:
            if may(account, action) != (verdict == "allowed"):
                wrong.append(f"not {verdict}: {action}")
        record_property(verdict, len(actions))
    assert wrong == []


def may(account: str, action: dict[str, str]) -> bool:
    """What the cluster says of an action."""
    what = ".".join(filter(None, (action["resource"], action.get("group"))))
    what += f"/{action['name']}" if action.get("name") else ""
    more = [f"--subresource={action['subresource']}"] if action.get("subresource") else []
    space = [] if action.get("scope") == "cluster" else ["-n", action.get("namespace") or NAMESPACE]
    who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    command = ["kubectl", "auth", "can-i", action["verb"], what, *more, *space, who]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)
    answer = done.stdout.strip().split(" ")[0]
    assert answer in ("yes", "no"), done.stderr
    return answer == "yes"


def test_a_launcher_is_small_and_ends_soon_after_its_job(record_property: Note) -> None:
    run = Run()
    memory: list[float] = []
    try:
        run.training()
        pod = run.launcher("stage_1")
        for _ in range(6):
            memory.append(e2e.working_set(pod))
            time.sleep(3)  # samples over some time: the kubelet measures every ten seconds or so
        assert run.ended(1200) == "Succeeded"
    finally:
        run.close()
    memory = [each for each in memory if each]
    after = e2e.after_jobs(run.run_id)
    record_property("run", run.run_id)
    record_property("seconds from a job's end to its launcher's", after)
    record_property("launcher's memory, MB", [round(each / 1e6) for each in memory])
    assert after
    assert max(after.values()) <= AFTER_SECONDS
    assert memory, "the kubelet gave no figures"
    assert max(memory) <= LAUNCHER_BYTES
