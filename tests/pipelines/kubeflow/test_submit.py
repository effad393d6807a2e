"""`zoetrope submit` against a small Kubeflow Pipelines, through KFP's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.doctor import Finding
from zoetrope.infra.store import open_store
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.kubeflow.demands import demands


@pytest.fixture(autouse=True)
def _ready(compiled: dict[str, Any], images: dict[str, bool]) -> None:
    """A pipeline to submit, and its images in the registry."""


def test_a_run_is_created_with_all_that_the_ui_shows(kubeflow: Any, zoetrope: Any) -> None:
    said = zoetrope(
        "submit", "nano", "--host", kubeflow.url, "--set", "stages.stage_3.steps=200", "--set", "generate.videos=12",
        "--source", "samples:9", "--budget", "12.50", "--no-promote", "--experiment", "trials",
    )  # fmt: skip
    assert said.code == 0, said.err
    (run,) = kubeflow.runs.values()
    assert run["runtime_config"]["parameters"] == {
        "source": "samples:9",
        "overrides": "stages.stage_3.steps=200\ngenerate.videos=12",
        "budget_usd": 12.5,
        "promote_when_green": False,
    }
    assert run["service_account"] == "zoetrope-runner"
    assert run["pipeline_version_reference"] == {"pipeline_id": "pipeline-1", "pipeline_version_id": "version-1"}
    assert "recipe: nano" in run["description"].splitlines()
    assert kubeflow.experiments["experiment-1"]["display_name"] == "trials"
    pipeline = kubeflow.pipelines["pipeline-1"]
    assert pipeline["name"] == "zoetrope-nano-full"
    assert "- `source`: where raw video comes from." in pipeline["description"].splitlines()
    assert kubeflow.versions["version-1"]["tags"]["managed-by"] == "zoetrope"
    assert f"{kubeflow.url}/#/runs/details/run-1" in said.out


def test_equal_yaml_is_uploaded_once(kubeflow: Any, zoetrope: Any, compiled: dict[str, Any]) -> None:
    for _ in range(3):
        assert zoetrope("submit", "nano", "--host", kubeflow.url).code == 0
    assert (len(kubeflow.runs), len(kubeflow.versions), len(kubeflow.pipelines)) == (3, 1, 1)
    assert len(kubeflow.experiments) == 1
    compiled["components"]["comp-more"] = {"executorLabel": "exec-ingest"}
    assert zoetrope("submit", "nano", "--host", kubeflow.url).code == 0
    assert (len(kubeflow.versions), len(kubeflow.pipelines)) == (2, 1)
    first, second = (each["name"] for each in kubeflow.versions.values())
    assert first != second


def test_what_another_submission_has_just_created_is_used(kubeflow: Any, zoetrope: Any) -> None:
    kubeflow.rival = True
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--json")
    assert said.code == 0, said.err
    assert (len(kubeflow.runs), len(kubeflow.versions), len(kubeflow.pipelines)) == (1, 1, 1)
    (run,) = kubeflow.runs.values()
    assert run["experiment_id"] in kubeflow.experiments
    assert run["pipeline_version_reference"]["pipeline_id"] == "pipeline-1"


def test_a_version_is_found_behind_the_first_page(kubeflow: Any, zoetrope: Any) -> None:
    for number in range(5):
        key = f"pipeline-{number}"
        kubeflow.pipelines[f"foreign-{number}"] = {"pipeline_id": key, "name": "foreign", "display_name": "foreign"}
    assert zoetrope("submit", "nano", "--host", kubeflow.url, "--json").code == 0
    assert len(kubeflow.pipelines) == 6
    assert zoetrope("submit", "nano", "--host", kubeflow.url).code == 0
    assert (len(kubeflow.pipelines), len(kubeflow.versions)) == (6, 1)


def test_a_dry_run_creates_nothing(kubeflow: Any, zoetrope: Any) -> None:
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--dry-run", "--json")
    assert (said.code, kubeflow.created) == (0, [])
    assert {row["what"]: row["would"] for row in json.loads(said.out)} == dict.fromkeys(
        ("pipeline", "version", "experiment", "run"), "be created"
    )
    assert zoetrope("submit", "nano", "--host", kubeflow.url).code == 0
    rows = json.loads(zoetrope("submit", "nano", "--host", kubeflow.url, "--dry-run", "--json").out)
    assert [row["would"] for row in rows] == ["be used, it is there"] * 3 + ["be created"]


def test_a_token_file_is_read_and_the_namespace_of_a_profile_is_used(
    kubeflow: Any, zoetrope: Any, tmp_path: Path
) -> None:
    kubeflow.token, kubeflow.multi_user = "s3cret", True
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--token-file", str(token), "--namespace", "alice")
    assert said.code == 0, said.err
    assert kubeflow.experiments["experiment-1"]["namespace"] == "alice"
    assert kubeflow.pipelines["pipeline-1"]["namespace"] == "alice"
    assert "s3cret" not in said.out + said.err + json.dumps(kubeflow.runs)


BAD_HOSTS = {
    "http://nowhere.invalid": "its name is unknown",
    "http://127.0.0.1:1": "connection refused",
    "nowhere": "not the URL of a server",
    "ftp://host": "not the URL of a server",
    "http://someone:hunter2@host": "holds a password",
}


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_an_unknown_cluster_is_one_line(kubeflow: Any, zoetrope: Any, host: str) -> None:
    said = zoetrope("submit", "nano", "--host", host)
    assert said.code == 2
    assert BAD_HOSTS[host] in said.problem
    assert "hunter2" not in said.err


def test_no_cluster_named_is_one_line(kubeflow: Any, zoetrope: Any) -> None:
    said = zoetrope("submit", "nano")
    assert (said.code, said.problem) == (2, "no cluster is named")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"token": "another"}, "the login is missing or has expired (401)"),
        ({"status": 401}, "the login is missing or has expired (401)"),
        ({"status": 302}, "the login is missing or has expired (302)"),
        ({"status": 403}, "not allowed (403)"),
        ({"status": 404}, "answers, but not with the API v2beta1 (404)"),
        ({"html": True}, "the answer is a web page, not the API"),
        ({"version": "2.16.1"}, "version 2.16.1 is too old"),
        ({"version": "1.8.5"}, "version 1.8.5 is too old"),
    ],
)
def test_a_server_that_will_not_do_is_one_line(
    kubeflow: Any, zoetrope: Any, state: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_TOKEN", "expired")
    for name, value in state.items():
        setattr(kubeflow, name, value)
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, kubeflow.created) == (2, [])
    assert reason in said.problem
    assert "expired" not in said.err.replace("has expired", "").replace("be expired", "")


def test_a_server_in_trouble_may_recover(kubeflow: Any, zoetrope: Any) -> None:
    kubeflow.status = 503
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, kubeflow.created) == (75, [])
    assert "server error (503)" in said.problem


@pytest.mark.parametrize("version", ["2.17.0", "v2.17.3", "2.18.0", "3.0.0", "unknown"])
def test_newer_servers_and_those_without_a_version_are_taken(kubeflow: Any, zoetrope: Any, version: str) -> None:
    kubeflow.version = version
    assert zoetrope("submit", "nano", "--host", kubeflow.url, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--pipeline", "ful"), "unknown pipeline 'ful'"),
        (("--pipeline", "train"), "the pipeline train starts from a dataset version"),
        (("--pipeline", "evaluate"), "--checkpoint belongs to the pipeline evaluate"),
        (("--source", "/videos"), "--source '/videos' is no source"),
        (("--source", "samples:x"), "--source 'samples:x' is no source"),
        (("--dataset", "nano-v1", "--source", "samples:1"), "--dataset starts from a dataset version"),
        (("--budget", "much"), "--budget 'much' is not an amount"),
        (("--budget", "-1"), "--budget '-1' is not an amount"),
        (("--budget", "nan"), "--budget 'nan' is not an amount"),
        (("--set", "stages.stage_9.steps=1"), "unknown key stages.stage_9"),
        (("--set", "generate.videos"), "is not path=value"),
        (("--set", "generate.videos='1\n2'"), "a value has several lines"),
        (("--token-file", "/nowhere"), "token file /nowhere: No such file"),
    ],
)
def test_wrong_options_are_one_line(kubeflow: Any, zoetrope: Any, arguments: tuple[str, ...], reason: str) -> None:
    said = zoetrope("submit", "nano", "--host", kubeflow.url, *arguments)
    assert (said.code, kubeflow.created) == (2, [])
    assert reason in said.problem


def test_an_unknown_recipe_is_one_line(kubeflow: Any, zoetrope: Any) -> None:
    said = zoetrope("submit", "nona", "--host", kubeflow.url)
    assert (said.code, kubeflow.created) == (2, [])
    assert "unknown recipe 'nona'" in said.problem


def test_an_image_that_the_registry_lacks_is_one_line(kubeflow: Any, zoetrope: Any, images: dict[str, bool]) -> None:
    images.update(dict.fromkeys(images, False))
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, kubeflow.created) == (2, [])
    assert "the registry has no registry.example/zoetrope-core@sha256" in said.problem


def test_name_clashes_are_one_line(kubeflow: Any, zoetrope: Any) -> None:
    assert zoetrope("submit", "nano", "--host", kubeflow.url).code == 0
    before = len(kubeflow.created)
    kubeflow.versions["version-1"]["pipeline_spec"] = {"pipelineInfo": {"name": "another"}}
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, len(kubeflow.created)) == (2, before)
    assert "name clash: version" in said.problem
    kubeflow.versions.clear()
    kubeflow.experiments["experiment-1"]["storage_state"] = "ARCHIVED"
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, len(kubeflow.created)) == (2, before)
    assert "name clash: the experiment 'zoetrope' is archived" in said.problem


def test_waiting_shows_each_change_once_and_ends_with_the_verdict(
    kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    monkeypatch.setenv("ZOETROPE_STORE", store.root)
    monkeypatch.setattr("zoetrope.pipelines.kubeflow.follow.time.sleep", lambda seconds: None)
    states = iter(["RUNNING", "RUNNING", "FAILED"])

    def move(run: dict[str, Any]) -> None:
        run["state"] = next(states)
        run["finished_at"] = "2026-11-24T10:05:00Z"
        stage = {"display_name": "train-stage", "state": run["state"], "start_time": "2026-11-24T10:01:00Z"}
        run["run_details"] = {"task_details": [stage | {"end_time": "2026-11-24T10:02:05Z"}]}

    kubeflow.moves = move
    store.put_bytes("verdicts/run-1/stage_1.json", json.dumps({"headline": "no room", "hint": "use less"}).encode())
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--wait")
    assert said.code == 2
    lines = said.err.strip().splitlines()
    assert lines.count("stage_1: running") == 1
    assert "stage_1: failed after 1:05" in lines
    assert lines[-3:] == ["run run-1 failed after 5:00", "stage_1: no room", "  -> use less"]


def test_a_run_without_a_permanent_failure_may_be_retried(
    kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOETROPE_STORE", open_store(tmp_path / "store").root)

    def move(run: dict[str, Any]) -> None:
        stage = {"display_name": "train-stage", "state": "FAILED", "start_time": "2026-11-24T10:01:00Z"}
        run |= {"state": "FAILED", "run_details": {"task_details": [stage]}}

    kubeflow.moves = move
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--wait")
    assert said.code == 75
    assert "zoetrope runs retry run-1" in said.err


def test_waiting_outlives_an_api_server_that_is_away(
    kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slept(seconds: float) -> None:
        kubeflow.status = 0 if kubeflow.status else 503

    def move(run: dict[str, Any]) -> None:
        run["state"] = "SUCCEEDED" if kubeflow.requests.count("GET /apis/v2beta1/runs/run-1") > 2 else "RUNNING"

    kubeflow.moves = move
    monkeypatch.setattr("zoetrope.pipelines.kubeflow.follow.time.sleep", slept)
    assert zoetrope("submit", "nano", "--host", kubeflow.url, "--wait").code == 0


def test_a_recipe_asks_for_what_its_pods_are_given() -> None:
    resolved = Resolved.read("nano", ["resources.stage_1.cpu=8", "cluster.cpu_request_share=0.5"])
    found = {demand.step: demand for demand in demands(resolved)}
    stage = found["stage_1"]
    assert (stage.pods, stage.cpu, stage.cpu_limit, stage.runtime) == (2, 2.0, 4.0, "zoetrope-torch-cpu")
    assert (found["generate"].pods, found["generate"].runtime) == (1, "")
    assert found["ingest"].runtime == "zoetrope-plain"
    assert "promote" not in found
    assert set(found) > {demand.step for demand in demands(resolved, "data")}


def test_a_cluster_that_does_not_fit_is_one_line_and_creates_nothing(
    kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(context: Any, *, before_submit: bool) -> list[Finding]:
        assert before_submit
        return [Finding("quotas", "problem", "quota q is too small", "raise it")]

    monkeypatch.setattr("zoetrope.pipelines.kubeflow.preflight.examine", look)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, said.problem, kubeflow.created) == (2, "quotas: quota q is too small", [])


def test_a_job_that_no_budget_covers_is_one_line_and_creates_nothing(kubeflow: Any, zoetrope: Any) -> None:
    large = "resources.stage_1={cpu: 2000, memory_gb: 4}"
    said = zoetrope("submit", "nano", "--host", kubeflow.url, "--set", large, "--budget", "1")
    assert (said.code, kubeflow.created) == (2, [])
    assert said.problem.startswith("budget: stage_1 may cost up to ")
    assert said.problem.endswith("until its deadline, the budget is 1.00 USD")


def test_an_unknown_context_is_one_line(kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    said = zoetrope("submit", "nano", "--host", kubeflow.url)
    assert (said.code, kubeflow.created) == (2, [])
    assert "kubeconfig" in said.problem
