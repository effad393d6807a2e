"""What steps do on a cluster beside their work: verdicts, retries, the run's files, outputs for the UI."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import collect
from zoetrope.infra.references import Reference
from zoetrope.infra.runs import RunFiles, RunPlan, RunRecord
from zoetrope.infra.steps import StepResult, execute_job, task_errors
from zoetrope.infra.steps.outputs import Outputs
from zoetrope.infra.store import get_json, open_store, put_json

JOB = json.dumps({"step": "curate", "config": {}, "operators": {"m": "c"}})


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFiles:
    """The environment of a step's pod; no MLflow."""
    for name, value in {
        "ZOETROPE_CLUSTER": "true",
        "ZOETROPE_STORE": str(tmp_path / "store"),
        "ZOETROPE_RUN_ID": "run-1",
        "ZOETROPE_RUN_DIRECTORY": str(tmp_path / "pod" / "runs" / "current"),
        "ZOETROPE_TRACKING_URI": "",
        "ZOETROPE_POD": "pod-a",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KFP_RETRY_INDEX", raising=False)
    return RunFiles(open_store(tmp_path / "store"), "run-1")


def fails(error: Exception) -> Any:
    def work(config: Any, context: Any) -> StepResult:
        raise error

    return work


def succeeds(config: Any, context: Any) -> StepResult:
    product = put_json(context.store, {"schema": "x"})
    return StepResult(product, key_figure="3 clips", metrics={"clips": 3.0}, files={"a/b.json": b"{}"})


def test_a_failure_for_good_is_repeated_by_no_retry_but_by_a_person(
    pod: RunFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as first:
        execute_job(JOB, fails(ZoetropeError("curate: nothing is kept", "loosen the thresholds")))
    assert first.value.code == 2
    capsys.readouterr()
    monkeypatch.setenv("KFP_RETRY_INDEX", "1")
    with pytest.raises(SystemExit) as second:
        execute_job(JOB, succeeds)
    assert second.value.code == 2
    assert "nothing is kept\n  -> loosen the thresholds" in capsys.readouterr().err
    monkeypatch.setenv("KFP_RETRY_INDEX", "0")  # a person's retry counts from 0 again
    product, record = execute_job(JOB, succeeds)
    assert pod.steps()["curate"] == {"record": record, "product": product, "mlflow_run": ""}
    assert pod.verdicts.get("curate") is None


@pytest.mark.parametrize("error", [ZoetropeError("S3 is away", retryable=True), ConnectionError("reset")])
def test_what_may_pass_leaves_no_verdict(pod: RunFiles, error: Exception) -> None:
    with pytest.raises((SystemExit, ConnectionError)):
        execute_job(JOB, fails(error))
    assert pod.verdicts.get("curate") is None


def test_a_fault_of_ours_is_final_too(pod: RunFiles) -> None:
    with pytest.raises(KeyError):
        execute_job(JOB, fails(KeyError("column")))
    verdict = pod.verdicts.get("curate")
    assert verdict is not None
    assert "KeyError" in verdict.headline


def test_a_pod_that_is_asked_to_end_writes_nothing_more(pod: RunFiles) -> None:
    with pytest.raises(SystemExit) as ended:
        execute_job(JOB, fails(SystemExit(143)))  # type: ignore[arg-type]
    assert ended.value.code == 143
    chain = pod.store.read(pod.store.uri("ledger/run-1/curate.1.jsonl")).splitlines()
    assert [json.loads(line)["kind"] for line in chain] == ["allocation"]
    assert json.loads(chain[0])["body"]["pod"] == "pod-a"


def test_verdicts_are_forgotten_for_a_persons_retry(pod: RunFiles) -> None:
    pod.verdicts.write("stage_1", ZoetropeError("out of memory"))
    pod.verdicts.write("encode", ZoetropeError("no clip"))
    assert sorted(pod.verdicts.clear_all()) == ["encode", "stage_1"]
    assert pod.verdicts.get("stage_1") is None


def test_tasks_that_are_no_steps_end_with_one_line_and_a_verdict(
    pod: RunFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, task_errors("resolve"):
        raise ZoetropeError("unknown key stages.stage_9", "did you mean stage_1?")
    assert ended.value.code == 2
    assert "zoetrope: resolve: unknown key stages.stage_9" in capsys.readouterr().err
    assert pod.verdicts.get("resolve") is not None


def test_the_last_step_finishes_a_run_that_was_finished_before(pod: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's retry: KFP does not repeat the exit task."""
    monkeypatch.setattr("zoetrope.infra.reaper.collector.collect_this_run", lambda settings: None)
    plan = RunPlan(run_id="run-1", pipeline="data", steps=("curate",), recipe="nano", recipe_digest="d")
    pod.write_plan(plan)
    execute_job(JOB, succeeds)
    assert pod.record() is None  # the exit task is still to come
    pod.write_record(RunRecord(run_id="run-1", status="FAILED", started=0.0, finished=1.0))
    monkeypatch.setenv("ZOETROPE_POD", "pod-b")
    execute_job(JOB, succeeds)
    closed = pod.record()
    assert closed is not None
    assert (closed.status, list(closed.steps)) == ("FINISHED", ["curate"])


@pytest.mark.parametrize("step", ["resolve", "finish"])
def test_tasks_that_are_no_steps_name_their_pod_in_the_ledger(pod: RunFiles, step: str) -> None:
    with task_errors(step):
        [entry] = collect(pod.store, "run-1")
        assert (entry.step, entry.pod, entry.outcome) == (step, "pod-a", "open")
    [entry] = collect(pod.store, "run-1")
    assert entry.outcome == "succeeded"


def test_pages_link_and_escape_metrics_are_typed_and_files_lie_beside(tmp_path: Path) -> None:
    logged: dict[str, float] = {}
    page = SimpleNamespace(path=str(tmp_path / "out" / "page"), metadata={})
    files = SimpleNamespace(path=str(tmp_path / "out" / "files"), metadata={})
    metrics = SimpleNamespace(
        path=str(tmp_path / "out" / "metrics"), log_metric=lambda name, value: logged.update({name: value})
    )
    store = open_store(tmp_path / "store")
    result = StepResult(put_json(store, {}), "<b>", {"clips": 3}, files={"a/b.json": b"{}"})
    Outputs(page, metrics, files).write("curate", result, {"MLflow": "http://mlflow/?a=1&b=2"})
    text = Path(page.path).read_text()
    assert "&lt;b&gt;" in text
    assert 'href="http://mlflow/?a=1&amp;b=2"' in text
    assert logged == {"clips": 3.0}
    assert Path(files.path, "a", "b.json").read_bytes() == b"{}"
    assert page.metadata["schema"] == "zoetrope.page.v1"


def test_every_artifact_has_its_file_also_where_a_step_had_nothing_for_it(tmp_path: Path) -> None:
    """kfp.local takes a task of which one file is missing for one that it has never run."""
    page, metrics, files = (
        SimpleNamespace(path=str(tmp_path / name), metadata={}, log_metric=lambda name, value: None)
        for name in ("page", "metrics", "files")
    )
    Outputs(page, metrics, files).write("encode", StepResult(put_json(open_store(tmp_path / "store"), {})), {})
    assert json.loads(Path(metrics.path).read_text()) == {}
    assert Path(page.path).is_file()
    assert Path(files.path).is_dir()


def test_a_known_result_is_taken_runs_nothing_and_costs_nothing(pod: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    first = execute_job(JOB, succeeds)
    monkeypatch.setenv("ZOETROPE_RUN_ID", "run-2")
    second = RunFiles(pod.store, "run-2")
    page = SimpleNamespace(path=str(pod.store.local_path(pod.store.uri("page"))), metadata={})
    assert execute_job(JOB, fails(AssertionError("it ran")), page=page) == first
    assert collect(pod.store, "run-2") == []
    assert second.steps()["curate"] == {"record": first[1], "product": first[0], "mlflow_run": ""}
    assert "Made by run run-1; nothing was computed now." in Path(page.path).read_text()
    assert "3 clips" in Path(page.path).read_text()


def test_damaged_content_is_said_with_the_step_that_made_it(pod: RunFiles, capsys: pytest.CaptureFixture[str]) -> None:
    product, _ = execute_job(JOB, succeeds)
    path = pod.store.local_path(Reference.parse(product).uri)
    assert path is not None
    path.write_bytes(b"changed")
    job = json.dumps({"step": "caption", "config": {}, "operators": {"m": "d"}})
    with pytest.raises(SystemExit) as ended:
        execute_job(job, lambda config, context: get_json(context.store, product))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"caption: file://{path}: content does not match its digest" in said
    assert "delete it and run the step `curate` again with --fresh" in said


def test_a_run_that_was_asked_to_computes_anew(pod: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    execute_job(JOB, succeeds)
    monkeypatch.setenv("ZOETROPE_RUN_ID", "run-2")
    plan = RunPlan(run_id="run-2", pipeline="data", steps=("curate",), recipe="nano", recipe_digest="d", fresh=True)
    RunFiles(pod.store, "run-2").write_plan(plan)
    keys: list[str] = []

    def noted(config: Any, context: Any) -> StepResult:
        keys.append(context.key)
        return succeeds(config, context)

    execute_job(JOB, noted)
    monkeypatch.setenv("ZOETROPE_RUN_ID", "run-3")
    monkeypatch.setenv("ZOETROPE_FRESH", "true")
    execute_job(JOB, noted)
    assert len(set(keys)) == 2  # nor is what another run left half-way taken up
    assert [entry.run_id for entry in collect(pod.store)] == ["run-1", "run-2", "run-3"]
