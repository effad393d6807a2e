"""MLflow as pods see it: live metrics, steps filed from the run's files, outages made good at the end of the run."""

from pathlib import Path

import pytest

from zoetrope.infra.context import StepContext
from zoetrope.infra.runs import RunFiles, RunPlan
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import open_store, put_json
from zoetrope.infra.tracking import Tracker
from zoetrope.infra.tracking.live import live_metrics
from zoetrope.infra.tracking.pod_publisher import PodPublisher

AWAY = "http://127.0.0.1:9"


def settings_of(tmp_path: Path, uri: str) -> Settings:
    return Settings(
        store=str(tmp_path / "store"),
        run_id="run-1",
        cluster=True,
        tracking_uri=uri,
        kubeflow_url="http://kubeflow",
    )


def context_of(settings: Settings, tmp_path: Path) -> StepContext:
    store = open_store(settings.store)
    return StepContext("stage_1", store, tmp_path / "work", tmp_path / "pod", run_id="run-1")


def record_of(settings: Settings, step: str, run: str = "run-1") -> str:
    value = {
        "step": step, "run_id": run, "product": "p", "key_figure": "loss 1", "inputs": {}, "parameters": {"steps": 4},
        "artifacts": {}, "metrics": {"final_loss": 1.0}, "seconds": 2.0, "cost_usd": "0.5",
        "usage": {"peak_memory_bytes": 7},
    }  # fmt: skip
    return str(put_json(open_store(settings.store), value))


def test_metrics_that_mlflow_missed_are_sent_at_the_end_of_the_run(tmp_path: Path, mlflow_uri: str) -> None:
    away = settings_of(tmp_path, AWAY)
    context = context_of(away, tmp_path)
    named = away.model_copy(update={"mlflow_run_id": "0" * 32})
    with live_metrics(context, named):  # training goes on without MLflow
        context.log_metrics({"loss": 3.0}, 1)
        context.log_metrics({"loss": 2.0}, 2)
    run_files = RunFiles(context.store, "run-1")
    assert len(run_files.kept_metrics()) == 1
    run_files.note_step("stage_1", record_of(away, "stage_1"), "p")
    run_files.note_step("curate", record_of(away, "curate", run="run-0"), "p")
    plan = RunPlan(run_id="run-1", pipeline="train", recipe="nano", recipe_digest="d", budget_usd="1")
    run_files.write_plan(plan.model_copy(update={"headline": ("stage_1",)}))

    settings = settings_of(tmp_path, mlflow_uri)
    found = PodPublisher(settings).finish("FINISHED")
    client = Tracker(settings.tracking_uri, settings.experiment).client
    parent = client.get_run(found["run"])
    assert (parent.info.status, parent.data.params["budget_usd"]) == ("FINISHED", "1")
    assert parent.data.metrics == {"final_loss": 1.0}
    assert parent.data.tags["zoetrope.kubeflow_run"] == "http://kubeflow/#/runs/details/run-1"
    steps = run_files.steps()
    stage = client.get_run(steps["stage_1"]["mlflow_run"])
    assert [each.value for each in client.get_metric_history(stage.info.run_id, "loss")] == [3.0, 2.0]
    assert stage.data.metrics["cost_usd"] == 0.5
    reused = client.get_run(steps["curate"]["mlflow_run"])
    assert (reused.data.tags["zoetrope.reused_from"], reused.data.metrics["cost_usd"]) == ("run-0", 0.0)
    assert run_files.kept_metrics() == []


def test_a_job_logs_into_the_run_that_its_step_opened(tmp_path: Path, mlflow_uri: str) -> None:
    settings = settings_of(tmp_path, mlflow_uri)
    publisher = PodPublisher(settings)
    opened = publisher.open("stage_1")
    assert opened == publisher.open("stage_1")
    context = context_of(settings, tmp_path)
    with live_metrics(context, settings.model_copy(update={"mlflow_run_id": opened["run"]})):
        context.log_metrics({"loss": 3.0}, 1)
    run_files = RunFiles(context.store, "run-1")
    assert run_files.kept_metrics() == []
    assert publisher.tracker.client.get_run(opened["run"]).data.metrics == {"loss": 3.0}
    run_files.note_step("stage_1", record_of(settings, "stage_1"), "p")
    assert publisher.step("stage_1")["run"] == opened["run"]
    assert run_files.steps()["stage_1"]["mlflow_run"] == opened["run"]
    assert opened["url"].endswith(f"/runs/{opened['run']}")


def test_on_one_machine_the_driver_sends_and_the_pod_way_does_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, AWAY).model_copy(update={"cluster": False, "mlflow_run_id": "1"})
    context = context_of(settings, tmp_path)
    with pytest.raises(ValueError, match="loss"), live_metrics(context, settings):
        raise ValueError("the loss is not finite")
    assert RunFiles(context.store, "run-1").kept_metrics() == []
