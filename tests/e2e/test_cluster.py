"""What must work on a real cluster, one test each. `make e2e`; docs/cluster-runs.md names the variables."""

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
from tests.e2e.cluster import NAMESPACE, Finished, Run, items, kubectl, kubeflow, zoetrope

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200), pytest.mark.usefixtures("cluster")]

ROOT = Path(__file__).parents[2]
IMAGES = os.environ.get("IMAGES_LOCK", "images.lock")
ALWAYS = {"resolve", "promote", "report", "finish"}
TRAINING = ("autoencoder", "stage_1", "stage_2", "stage_3")
WORKERS = (1, 4, 16)
AFTER_SECONDS, LAUNCHER_BYTES = 10.0, 200e6
Note = Any
# Two groups go side by side (they wait for pods most of the time): what needs the nano run, and the rest.
of_nano, apart = pytest.mark.xdist_group("nano"), pytest.mark.xdist_group("apart")


@pytest.fixture(scope="session")
def nano(cluster: None) -> Finished:
    """`zoetrope submit nano --wait`; E2E_NANO names a run that did it already."""
    if os.environ.get("E2E_NANO"):
        return Finished(os.environ["E2E_NANO"])
    return e2e.submitted("nano", lock=IMAGES)


@pytest.fixture
def nano_yaml(tmp_path: Path) -> Path:
    """What a person uploads."""
    zoetrope("compile", "nano", "--target", "cluster", "--images", IMAGES, "--out", str(tmp_path))
    (found,) = tmp_path.rglob("nano-full.yaml")
    return found


@of_nano
def test_nano_is_submitted_trained_on_two_nodes_and_registered(nano: Finished, record_property: Note) -> None:
    record_property("run", nano.run_id)
    record_property("seconds", round(nano.seconds))
    assert nano.exit_code == 0
    assert {name: state for name, state in nano.states().items() if state not in ("succeeded", "cached")} == {}
    for step in TRAINING:
        # A step that KFP answered from its cache was trained by the run that its record names.
        jobs = items("trainjobs", f"zoetrope/run={nano.made_by(step)},zoetrope/step={step}")
        assert jobs, f"no TrainJob of {step} in run {nano.made_by(step)}"
        assert {job["spec"]["trainer"]["numNodes"] for job in jobs} == {2}, step
    promotion = nano.product("promote")
    record_property("model", f"{promotion['model']} version {promotion['version']}")
    address = f"http://localhost:5000/api/2.0/mlflow/model-versions/get?name={promotion['model']}"
    asks = f"import urllib.request as r; print(r.urlopen('{address}&version={promotion['version']}').read().decode())"
    said = json.loads(kubectl("exec", "deployment/zoetrope-mlflow", "--", "python3", "-c", asks))
    assert said["model_version"]["status"] == "READY"


@of_nano
def test_the_uploaded_yaml_runs_with_defaults(nano: Finished, nano_yaml: Path, record_property: Note) -> None:
    import kfp

    client = kfp.Client(host=os.environ["ZOETROPE_KFP_HOST"], namespace=NAMESPACE)
    stamp = f"zoetrope-e2e-{int(time.time())}"
    version = client.upload_pipeline(str(nano_yaml), pipeline_name=stamp, namespace=kubeflow().namespace)
    versions = client.list_pipeline_versions(version.pipeline_id).pipeline_versions
    experiment = client.create_experiment("e2e", namespace=kubeflow().namespace)
    started = client.run_pipeline(
        experiment.experiment_id, stamp, pipeline_id=version.pipeline_id,
        version_id=versions[0].pipeline_version_id, params={},
    )  # fmt: skip
    record_property("run", started.run_id)
    ended = client.wait_for_run_completion(started.run_id, timeout=5400, sleep_duration=5)
    assert ended.state == "SUCCEEDED", ended.error
    pods = items("pods", f"pipeline/runid={started.run_id}")
    accounts = {pod["spec"]["serviceAccountName"] for pod in pods}
    record_property("service accounts", ", ".join(sorted(accounts)))
    assert "zoetrope-runner" not in accounts


@of_nano
def test_the_second_submission_is_answered_from_the_cache(nano: Finished, record_property: Note) -> None:
    again = e2e.submitted("nano", lock=IMAGES)
    record_property("run", again.run_id)
    record_property("seconds", round(again.seconds))
    assert again.exit_code == 0
    states = again.states()
    assert {step for step, state in states.items() if state == "succeeded"} == ALWAYS
    assert {state for step, state in states.items() if step not in ALWAYS} == {"cached"}
    pods = items("pods", f"pipeline/runid={again.run_id}")
    ran = {step for pod in pods if (step := pod["metadata"]["labels"].get("zoetrope/step"))}
    assert ran <= ALWAYS
    assert items("trainjobs", f"zoetrope/run={again.run_id}") == []


@of_nano
def test_cluster_and_laptop_make_the_same_dataset(nano: Finished, record_property: Note) -> None:
    local = local_digest()
    record_property("digest", local)
    assert nano.product("encode")["digest"] == local


def local_digest() -> str:
    """Dataset digest of nano of a local run."""
    given = os.environ.get("E2E_LOCAL_STORE")
    store = Path(given or ".e2e/local")
    if not given:
        zoetrope("run", "nano", "--pipeline", "data", "--store", str(store))
    for path in sorted(store.glob("runs/*/record.json")):
        record = json.loads(path.read_text())
        if record["recipe"]["name"] == "nano" and (record.get("dataset") or {}).get("digest"):
            return str(record["dataset"]["digest"])
    raise AssertionError(f"no run of nano in {store} made a dataset")


@apart
def test_a_dataset_version_of_a_run_is_resolved_by_the_next(record_property: Note) -> None:
    known = e2e.version(IMAGES)
    given = ["--pipeline", "train", "--dataset", known["tag"], "--images", IMAGES, "--json", "--experiment", "e2e"]
    run_id = json.loads(zoetrope("submit", e2e.RECIPE, *given).stdout)["run"]
    record_property("run", run_id)
    try:
        plan = e2e.wait("the run is resolved", Finished(run_id).shelf.plan, 240)
        record_property("dataset", plan.dataset)
        assert (plan.dataset["tag"], plan.dataset["digest"]) == (known["tag"], known["digest"])
        assert plan.dataset["revision"].startswith(known["revision"])
    finally:
        zoetrope("runs", "cancel", run_id)


def torchx(*arguments: str) -> str:
    """Both streams of one call."""
    command = [str(Path(sys.executable).parent / "torchx"), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=300)
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

    image = read_images(Path(IMAGES)).image("core")
    options = ["-cfg", f"namespace={NAMESPACE},runtime=zoetrope-plain,cpu_request=50m"]
    made: list[str] = []

    def start(seconds: float) -> str:
        made.append(greeting("trainjob", seconds, *options, image=image))
        return made[-1]

    yield start
    for handle in made:
        kubectl("delete", "trainjob", handle.rpartition(":")[2], "--wait=false", check=False)


LINES = {f"node {number} {word}" for number in range(2) for word in ("begins", "ends")}


def said_by(log: str) -> set[str]:
    """The lines that the nodes wrote."""
    return set(re.findall(r"node \d (?:begins|ends)", log))


def state_of(handle: str) -> str:
    """TorchX's word."""
    found = re.search(r"State: (\w+)", torchx("status", handle))
    return found[1] if found else ""


@apart
def test_torchx_runs_the_same_app_on_both_schedulers(trainjob_app: Any) -> None:
    handle = trainjob_app(3)
    e2e.wait("the app ends", lambda: state_of(handle) == "SUCCEEDED", 180)
    assert said_by(torchx("log", handle)) == LINES
    app = [f"{Path(__file__).parent / 'greeting.py'}:greet", "--seconds", "0"]
    assert said_by(torchx("run", "--wait", "--log", "-s", "local_cwd", *app)) == LINES


@apart
def test_torchx_cancels(trainjob_app: Any) -> None:
    handle = trainjob_app(600)
    e2e.wait("the app runs", lambda: state_of(handle) == "RUNNING", 180)
    torchx("cancel", handle)
    name = handle.rpartition(":")[2]
    e2e.wait("its pods are gone", lambda: not items("pods", f"jobset.sigs.k8s.io/jobset-name={name}"), 120)
    assert state_of(handle) == "CANCELLED"


@apart
def test_any_number_of_data_workers_makes_the_same_dataset(record_property: Note) -> None:
    digests = {}
    # As many films as workers, and such as no earlier run has seen, so that nothing is answered from a cache.
    footage = [f"source.samples.seed={int(time.time())}", f"source.samples.films={WORKERS[-1]}"]
    footage += ["encode.clips_per_unit=1"]
    for number in WORKERS:
        sets = [f"{step}.workers={number}" for step in ("ingest", "curate", "encode")]
        sets += [f"resources.encode={{cpu: 2, memory_gb: {max(4, number)}}}"]  # all pods together; each holds PyTorch
        run = e2e.submitted("tests/recipes/tiny.yaml", *footage, *sets, pipeline="data", lock=IMAGES)
        assert run.exit_code == 0, f"{number} workers: run {run.run_id}"
        jobs = items("trainjobs", f"zoetrope/run={run.run_id}")
        nodes = {job["metadata"]["labels"]["zoetrope/step"]: job["spec"]["trainer"]["numNodes"] for job in jobs}
        record_property(f"{number} workers", nodes)
        assert nodes["ingest"] == nodes["curate"] == number
        assert number / 2 < nodes["encode"] <= number  # of films that left a clip
        digests[number] = run.product("encode")["digest"]
        e2e.forget_fan_outs(jobs)  # else the next number would find all units done
    record_property("digest", digests[WORKERS[0]])
    assert len(set(digests.values())) == 1, digests


ACTIONS = yaml.safe_load((ROOT / "tests" / "manifests" / "actions.yaml").read_text())


@apart
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


@apart
def test_a_launcher_is_small_and_ends_soon_after_its_job(record_property: Note) -> None:
    run = Run(lock=IMAGES)
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
    assert memory, "the kubelet told no figures"
    assert max(memory) <= LAUNCHER_BYTES
