"""Recipe nano on a real cluster, from raw video to a registered model; `make e2e`, docs/cluster-runs.md."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cluster as e2e
from tests.e2e.cluster import IMAGES, NAMESPACE, Finished, items, kubectl, kubeflow, zoetrope
from zoetrope.infra.images.build import Build, build_images
from zoetrope.infra.images.lock import read_images
from zoetrope.pipelines.definition.step_table import STEPS

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200), pytest.mark.usefixtures("cluster")]

ALWAYS = {"resolve", "promote", "report", "finish"}
TRAINING = ("autoencoder", "stage_1", "stage_2", "stage_3")
Note = Any


@pytest.fixture(scope="session")
def nano(cluster: None) -> Finished:
    """`zoetrope submit nano --wait`; E2E_NANO names a run that did it already."""
    if os.environ.get("E2E_NANO"):
        return Finished(os.environ["E2E_NANO"])
    return e2e.submitted("nano")


@pytest.fixture
def nano_yaml(tmp_path: Path) -> Path:
    """What a person uploads."""
    zoetrope("compile", "nano", "--target", "cluster", "--images", IMAGES, "--out", str(tmp_path))
    (found,) = tmp_path.rglob("nano-full.yaml")
    return found


def test_nano_is_submitted_trained_on_two_nodes_and_registered(nano: Finished, record_property: Note) -> None:
    record_property("run", nano.run_id)
    record_property("seconds", round(nano.seconds))
    assert nano.exit_code == 0
    assert {name: state for name, state in nano.states().items() if state not in ("succeeded", "reused")} == {}
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


def test_the_second_submission_is_answered_from_the_cache(nano: Finished, record_property: Note) -> None:
    again = e2e.submitted("nano")
    record_property("run", again.run_id)
    record_property("seconds", round(again.seconds))
    assert again.exit_code == 0
    states = again.states()
    assert {step for step, state in states.items() if state == "succeeded"} == ALWAYS
    assert {state for step, state in states.items() if step not in ALWAYS} == {"reused"}
    pods = items("pods", f"pipeline/runid={again.run_id}")
    ran = {step for pod in pods if (step := pod["metadata"]["labels"].get("zoetrope/step"))}
    assert ran <= ALWAYS
    assert items("trainjobs", f"zoetrope/run={again.run_id}") == []


@pytest.fixture(scope="session")
def newer_images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`images.lock` after a commit in infra: the same code but for how much of a log is shown."""
    root = tmp_path_factory.mktemp("newer") / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    module = root / "infra" / "launch" / "log_excerpt.py"
    module.write_text(module.read_text().replace("TAIL_LINES = 20", "TAIL_LINES = 25"))
    who = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.org"]
    subprocess.run(["git", "-C", str(root), *who, "commit", "-qam", "launch: longer excerpts"], check=True)
    options = tuple(shlex.split(os.environ.get("BUILD_OPTIONS", "")))
    build = Build(os.environ["REGISTRY"], os.environ.get("BASE_IMAGE", ""), options, root=root)
    lock = root / "images.lock"
    build_images(["core", "train", "tracking", "evaluate"], build, lock)
    return str(lock)


def test_after_new_images_every_result_is_known_and_no_job_is_made(
    nano: Finished, newer_images: str, record_property: Note
) -> None:
    assert read_images(Path(newer_images)).images["core"] != read_images(Path(IMAGES)).images["core"]
    again = e2e.submitted("nano", lock=newer_images)
    record_property("run", again.run_id)
    record_property("seconds", round(again.seconds))
    assert again.exit_code == 0
    assert items("trainjobs", f"zoetrope/run={again.run_id}") == []
    numeric = [row.name for row in STEPS.values() if row.cached]
    assert {step: again.made_by(step) for step in numeric} == {step: nano.made_by(step) for step in numeric}
    seconds = {}
    for step in numeric:
        (pod,) = items("pods", f"pipeline/runid={again.run_id},zoetrope/step={step}")
        (main,) = [each for each in pod["status"]["containerStatuses"] if each["name"] == "main"]
        ended = main["state"]["terminated"]
        begun, over = (datetime.fromisoformat(ended[name]) for name in ("startedAt", "finishedAt"))
        seconds[step] = (over - begun).total_seconds()
    record_property("seconds of each step's own container", json.dumps(seconds))
    assert max(seconds.values()) <= 10


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
