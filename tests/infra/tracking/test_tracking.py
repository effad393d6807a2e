"""MLflow runs, outbox and registry, on a real sqlite database."""

import json
import logging
import shutil

import pytest
from mlflow.exceptions import MlflowException

from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import open_store
from zoetrope.infra.tracking import ModelRegistry, Tracker, local_tracking_uri
from zoetrope.infra.tracking.outbox import flatten


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow):
    return local_tracking_uri(shutil.copytree(empty_mlflow, tmp_path_factory.mktemp("state") / "mlflow"))


@pytest.fixture
def tracker(uri, request):
    return Tracker(uri, request.node.name, adopt="")


@pytest.fixture
def context(tmp_path):
    return StepContext("stage_1", open_store(tmp_path / "store"), tmp_path / "work", tmp_path / "run")


def metrics_of(tracker, run, name):
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run, name)]


def test_a_pipeline_run_is_found_again_and_steps_are_nested(tracker):
    parent = tracker.start_run("run-1", "nano", {"train": {"lr": 0.1, "dims": [8, 8]}, "name": "x"}, {"commit": "abc"})
    step = tracker.step_run(parent, "stage_1")
    again = Tracker(tracker.uri, tracker.experiment, adopt="")
    assert again.start_run("run-1", "nano") == parent
    assert again.step_run(parent, "stage_1") == step
    assert again.step_run(parent, "stage_2") != step
    assert again.find_run("run-1") == parent
    assert again.find_run("run-2") is None
    assert again.start_run("run-2", "nano") != parent
    data = tracker.client.get_run(parent).data
    assert data.params == {"train.lr": "0.1", "train.dims": "[8, 8]", "name": "x"}
    assert data.tags["commit"] == "abc"
    assert tracker.client.get_run(step).data.tags["mlflow.parentRunId"] == parent


def test_a_run_that_kubeflow_made_is_adopted(tracker, monkeypatch):
    given = tracker.client.create_run(tracker.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    adopting = Tracker(tracker.uri, tracker.experiment)
    assert adopting.start_run("run-9", "nano") == given
    assert adopting.find_run("run-9") == given
    with pytest.raises(ZoetropeError, match=r"refuses.*not found"):
        Tracker(tracker.uri, tracker.experiment, adopt="f" * 32).start_run("run-10", "nano")


def test_the_outbox_is_sent_once_and_goes_on_where_it_stopped(tracker, context):
    run = tracker.start_run("run", "nano")
    context.log_parameters({"width": 8})
    for index in range(3):
        context.log_metrics({"loss": 1.0 / (index + 1)}, index)
    assert tracker.flush(context.outbox, run) == 4
    assert tracker.flush(context.outbox, run) == 0
    context.log_metrics({"loss": 0.1}, 3)
    assert Tracker(tracker.uri, tracker.experiment, adopt="").flush(context.outbox, run) == 1
    assert metrics_of(tracker, run, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3), (3, 0.1)]
    assert tracker.client.get_run(run).data.params == {"width": "8"}
    assert tracker.flush(context.outbox.with_name("never-written.jsonl"), run) == 0


def test_a_flush_that_was_killed_before_it_noted_its_progress_doubles_nothing(tracker, context):
    run = tracker.start_run("run", "nano")
    context.log_metrics({"loss": 1.0}, 7)
    assert tracker.flush(context.outbox, run) == 1
    (context.outbox.parent / (context.outbox.name + ".sent")).unlink()
    assert tracker.flush(context.outbox, run) == 1
    assert metrics_of(tracker, run, "loss") == [(7, 1.0)]


def test_many_lines_go_in_batches(tracker, context):
    run = tracker.start_run("run", "nano")
    for index in range(1500):
        context.log_metrics({"a": index, "b": -index}, index)
    context.log_parameters({f"p{index}": index for index in range(230)})
    assert tracker.flush(context.outbox, run) == 1501
    assert metrics_of(tracker, run, "b")[-1] == (1499, -1499.0)
    assert len(metrics_of(tracker, run, "a")) == 1500
    assert len(tracker.client.get_run(run).data.params) == 230


def test_half_and_damaged_lines_do_not_stop_the_rest(tracker, context, caplog):
    run = tracker.start_run("run", "nano")
    context.log_metrics({"loss": 1.0}, 0)
    with context.outbox.open("a") as stream:
        stream.write('{"kind": "metrics", "val')
    assert tracker.flush(context.outbox, run) == 1
    context.log_metrics({"loss": 2.0}, 1)  # continues the half line, which spoils it
    context.log_metrics({"loss/strange%name": 3.0, "nan": float("nan")}, 2)
    assert tracker.flush(context.outbox, run) == 2
    assert "a damaged line" in caplog.text
    assert metrics_of(tracker, run, "loss") == [(0, 1.0)]
    assert metrics_of(tracker, run, "loss/strange_name") == [(2, 3.0)]


def test_a_parameter_that_changed_keeps_its_first_value_and_stops_nothing(tracker, context, caplog):
    run = tracker.start_run("run", "nano", {"seed": 1})
    context.log_parameters({"a": 1, "seed": 2, "b": 3})
    context.log_metrics({"loss": 1.0})
    assert tracker.flush(context.outbox, run) == 2
    assert tracker.client.get_run(run).data.params == {"seed": "1", "a": "1", "b": "3"}
    assert "refuses seed" in caplog.text


def test_an_outage_warns_once_keeps_everything_and_sends_later(tracker, context, caplog, monkeypatch):
    run = tracker.start_run("run", "nano")
    context.log_metrics({"loss": 1.0}, 0)
    calls = []

    def down(*arguments, **keywords):
        calls.append(1)
        raise MlflowException("database is locked", error_code=14)

    monkeypatch.setattr("zoetrope.infra.tracking.client.LONGEST_WAIT", 0)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(tracker.client, "log_batch", down)
        assert tracker.flush(context.outbox, run) == 0
        context.log_metrics({"loss": 0.5}, 1)
        assert tracker.flush(context.outbox, run) == 0
    assert len(calls) == 3 + 1  # many tries at first, quick while it is known to be down
    assert sum("kept in" in record.message for record in caplog.records) == 1
    with caplog.at_level(logging.INFO):
        assert tracker.flush(context.outbox, run) == 2
    assert "answers again" in caplog.text
    assert metrics_of(tracker, run, "loss") == [(0, 1.0), (1, 0.5)]


def test_a_server_that_is_not_there(context, monkeypatch):
    monkeypatch.setattr("zoetrope.infra.tracking.client.LONGEST_WAIT", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker("http://127.0.0.1:1", "zoetrope", adopt="")
    context.log_metrics({"loss": 1.0})
    assert tracker.flush(context.outbox, "0" * 32) == 0
    with pytest.raises(ZoetropeError, match="does not answer") as caught:
        tracker.start_run("run", "nano")
    assert caught.value.exit_code == EXIT_RETRYABLE
    with pytest.raises(ZoetropeError, match="no tracking URI"):
        Tracker("", "zoetrope", adopt="").start_run("run", "nano")


def test_datasets_artifacts_and_the_end(tracker, tmp_path):
    run = tracker.start_run("run", "nano")
    digest = "0123456789abcdef" * 4
    for _ in range(2):
        tracker.log_dataset(run, "nano", digest, "s3://bucket/manifest.json")
    (tmp_path / "sheet.png").write_bytes(b"png")
    tracker.log_artifact(run, tmp_path / "sheet.png", "samples")
    tracker.finish(run, "FAILED", {"cost_usd": 0.25})
    stored = tracker.client.get_run(run)
    [entry] = stored.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("nano", digest[:36])
    assert json.loads(entry.dataset.source) == {"uri": "s3://bucket/manifest.json"}
    assert entry.tags[0].value == "training"
    assert stored.data.tags["dataset_digest"] == digest
    assert stored.info.status == "FAILED"
    assert stored.data.metrics == {"cost_usd": 0.25}
    assert [each.path for each in tracker.client.list_artifacts(run, "samples")] == ["samples/sheet.png"]
    tracker.start_run("run", "nano")
    assert tracker.client.get_run(run).info.status == "RUNNING"
    assert run in tracker.link(run)


def test_nested_settings_become_dotted_names():
    assert flatten({"a": {"b": {"c": True}}, "d": None, "e": "text", "f%": 1}) == {
        "a.b.c": "true", "d": "null", "e": "text", "f_": "1",
    }  # fmt: skip


def reference(number, place="s3://bucket"):
    return Reference(f"{place}/checkpoint-{number}.json", f"{number:064x}")


@pytest.fixture
def model(request):
    return f"model-{request.node.name}"[:60]


def test_a_checkpoint_is_registered_once_by_digest(uri, tracker, model):
    registry = ModelRegistry(uri, tracker.experiment)
    run = tracker.start_run("run", "nano")
    assert registry.versions(model) == []
    first = registry.register(model, reference(1), run, {"cost_usd": "0.1"}, {"accuracy": 0.5})
    moved = registry.register(model, reference(1, "s3://elsewhere"), tags={"note": "again"})
    second = registry.register(model, reference(2))
    assert (first.version, moved.version, second.version) == (1, 1, 2)
    assert moved.checkpoint == reference(1)
    assert (moved.tags["cost_usd"], moved.tags["note"]) == ("0.1", "again")
    assert [each.version for each in registry.versions(model)] == [1, 2]
    [logged] = tracker.client.search_logged_models([tracker.experiment_id], filter_string=f"source_run_id = '{run}'")
    assert {metric.key: metric.value for metric in logged.metrics} == {"accuracy": 0.5}
    assert logged.tags["checkpoint"] == str(reference(1))


def test_aliases_move_and_models_are_resolved(uri, model):
    registry = ModelRegistry(uri)
    for number in (1, 2):
        registry.register(model, reference(number))
    assert registry.by_alias(model, "champion") is None
    registry.set_alias(model, "champion", 1)
    registry.set_alias(model, "champion", 2)
    registry.set_alias(model, "candidate", 2)
    assert registry.by_alias(model, "champion").version == 2
    assert [each.aliases for each in registry.versions(model)] == [(), ("candidate", "champion")]
    assert registry.resolve(f"models:/{model}@champion") == reference(2)
    assert registry.resolve(f"models:/{model}/1") == reference(1)
    registry.delete_alias(model, "candidate")
    registry.delete_alias(model, "candidate")
    assert registry.by_alias(model, "candidate") is None


def test_unknown_models_are_answered_with_what_exists(uri, model):
    registry = ModelRegistry(uri)
    registry.register(model, reference(1))
    registry.set_alias(model, "candidate", 1)
    for text in (f"models:/{model}@champion", f"models:/{model}/7"):
        with pytest.raises(ZoetropeError, match="not in the registry") as caught:
            registry.resolve(text)
        assert f"models:/{model} has /1 @candidate" in caught.value.hint
    with pytest.raises(ZoetropeError) as caught:
        registry.resolve("models:/nobody@champion")
    assert model in caught.value.hint
    for text in ("nobody", "models:/a", "models:/a@", "models:/a/latest", "models:/a/b/1"):
        with pytest.raises(ZoetropeError, match="not a model"):
            registry.resolve(text)
