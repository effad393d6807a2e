"""Recipe nano on a real cluster, from raw video to a registered model; `make e2e`, docs/cluster-runs.md."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cluster as e2e
from tests.e2e.cluster import IMAGES, NAMESPACE, Finished, items, kubectl, kubeflow, zoetrope

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
