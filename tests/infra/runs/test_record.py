"""The record of a run: one form for runs here and on a cluster, built from what the steps left, old ones still read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain
from zoetrope.infra.resources import Resources
from zoetrope.infra.runs import read_run_record
from zoetrope.infra.runs.build import StepFailure, build_run_record, reused_records
from zoetrope.infra.runs.record import CodeVersion, RecipeVersion, RunHeader, RunRecord, RunStep, TrackingRun
from zoetrope.infra.store import open_store, put_json

ORDER = ("ingest", "curate", "encode", "stage_1", "report")
SHEET = "local-2026-11"  # 0.003 USD per core and hour
START = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


@pytest.fixture
def step_record(store):
    def write(step, run_id="run-1", inputs=None):
        product = str(
            put_json(
                store,
                {"schema": f"zoetrope.{'dataset' if step == 'encode' else step}.v1", "name": "films", "digest": "d"},
            )
        )
        value = {
            "schema": "zoetrope.record.v1", "step": step, "run_id": run_id, "attempt": 2, "seconds": 3.5,
            "resources": {"cpu": 2.0}, "usage": {"cpu_seconds": 1.0, "peak_memory_bytes": 5}, "product": product,
            "key_figure": f"{step} done", "inputs": inputs or {}, "cost_usd": "9", "price_sheet": "moon-2020-01",
        }  # fmt: skip
        return str(put_json(store, value))

    return write


def held(store, step, seconds, outcome="", reason="", attempt=1):
    """An attempt of `step` that held four cores."""
    times = iter([1000.0, 1000.0 + seconds, 1000.0 + seconds])
    chain = LedgerChain(store, "run-1", step, attempt, clock=lambda: next(times))
    chain.allocate(Resources(cpu=4, memory_gb=0), SHEET)
    if outcome:
        chain.outcome(outcome, reason)
    else:
        chain.usage(7.0, 8)


def header(**more):
    return RunHeader(**{"run_id": "run-1", "status": "FAILED", "started": START, "price_sheet": SHEET, **more})


def build(store, records, failures=None, **more):
    return build_run_record(
        store, header(**more), records, failures=failures or {}, mlflow_runs={"encode": "m1"}, order=ORDER
    )


def test_steps_that_ran_were_reused_failed_and_died_are_told_apart(store, step_record):
    held(store, "encode", 1800, "failed", "S3 is away")
    held(store, "encode", 900, "succeeded", attempt=2)
    held(store, "stage_1", 3600, "failed", "headline of the ledger")
    held(store, "report", 360)  # killed: no outcome
    records = {"encode": step_record("encode"), "ingest": step_record("ingest", "run-0")}
    said = {
        "stage_1": StepFailure("failed", "stage_1: loss is nan", "lower the rate"),
        "encode": StepFailure("failed", "x"),
    }
    made = build(store, records, said)
    assert list(made.steps) == ["ingest", "encode", "stage_1", "report"]  # curate never began
    ingest, encode, stage, report = made.steps.values()
    assert (ingest.status, ingest.from_run, ingest.attempt, ingest.seconds) == ("reused", "run-0", 0, 0.0)
    assert (ingest.cost_usd, ingest.record, ingest.key_figure) == (0, records["ingest"], "ingest done")
    assert (encode.status, encode.from_run, encode.mlflow_run, encode.attempt) == ("succeeded", "", "m1", 2)
    # Both attempts, by the run's own sheet and not by the one that the step's record names.
    assert encode.cost_usd == Decimal("0.009")
    assert (stage.status, stage.message, stage.hint) == ("failed", "stage_1: loss is nan", "lower the rate")
    assert (stage.attempt, stage.seconds, stage.resources["cpu"], stage.cost_usd) == (1, 3600.0, 4.0, Decimal("0.012"))
    assert (report.status, report.message) == ("failed", "it ended without a word: killed, or its machine was lost")
    assert report.usage == {"cpu_seconds": 7.0, "peak_memory_bytes": 8}
    assert made.cost_usd == Decimal("0.0222")
    assert made.dataset is not None
    assert (made.dataset.reference, made.dataset.name, made.dataset.tag) == (encode.product, "films", "")


def test_of_a_run_that_was_killed_what_had_begun_is_cancelled(store):
    held(store, "curate", 10)
    assert build(store, {}, status="KILLED").steps["curate"].status == "cancelled"


def test_the_last_steps_name_the_records_of_those_that_ran_nothing(store, step_record):
    ingest = step_record("ingest", "run-0")
    product = str(put_json(store, {"schema": "zoetrope.clips.v1"}))
    report = step_record("report", inputs={"ingest": ingest, "curate": product, "checkpoint": product})
    assert reused_records(store, {"report": report}, ORDER) == {"ingest": ingest}
    assert reused_records(store, {"report": report, "ingest": ingest}, ORDER) == {}


def test_the_form_of_a_record_is_stable(store):
    record = RunRecord(
        run_id="run-1", status="FINISHED", started=START, finished=START, pipeline="data", price_sheet=SHEET,
        recipe=RecipeVersion(name="nano", digest="r"), code=CodeVersion.parse("abc+dirty", {"core": "i@sha256:1"}),
        mlflow=TrackingRun(tracking_uri="https://me:hush@mlflow.example", run="m"), cost_usd=Decimal("1E-9"),
        command="zoetrope run nano --set source.s3=s3://key:hush@bucket/films", arguments={"recipe": "nano"},
        steps={"ingest": RunStep(status="reused", from_run="run-0")},
    )  # fmt: skip
    step = {
        "status": "reused", "from_run": "run-0", "record": "", "mlflow_run": "", "attempt": 0, "seconds": 0.0,
        "cost_usd": "0", "resources": {}, "usage": {}, "product": "", "key_figure": "", "message": "", "hint": "",
    }  # fmt: skip
    assert record.as_json() == {
        "schema": "zoetrope.run.v2", "run_id": "run-1", "status": "FINISHED", "message": "", "pipeline": "data",
        "recipe": {"name": "nano", "digest": "r"}, "arguments": {"recipe": "nano"},
        "command": "zoetrope run nano --set source.s3=s3://bucket/films",
        "started": "2026-11-25T10:00:00Z", "finished": "2026-11-25T10:00:00Z",
        "code": {"commit": "abc", "dirty": True, "images": {"core": "i@sha256:1"}}, "dataset": None,
        "price_sheet": SHEET, "cost_usd": "0.000000001",
        "mlflow": {"tracking_uri": "https://mlflow.example", "run": "m"}, "kubeflow": "", "peak_memory_bytes": 0,
        "steps": {"ingest": step},
    }  # fmt: skip
    assert next(iter(record.as_json())) == "schema"
    assert read_run_record(json.loads(json.dumps(record.as_json())), "x") == record


def old_step(status):
    return {
        "status": status, "record": "r", "mlflow_run": "m", "attempt": 1, "seconds": 2.0, "cost_usd": "0.5",
        "resources": {}, "usage": {"cpu_seconds": 1.0}, "product": "p", "key_figure": "k",
    }  # fmt: skip


def test_a_record_of_a_local_run_of_version_1_is_read():
    old = {
        "schema": "zoetrope.run.v1", "run_id": "nano-1", "status": "FAILED", "pipeline": "full",
        "recipe": {"name": "nano", "digest": "r"}, "arguments": {"recipe": "nano"}, "command": "zoetrope run nano",
        "started": "2026-11-23T23:59:04+00:00", "finished": "2026-11-24T00:05:37+00:00",
        "code": {"commit": "abc", "dirty": False}, "dataset": {"tag": "nano-v1", "revision": "g", "digest": "d"},
        "cost_usd": "0.25", "mlflow": {"tracking_uri": "sqlite:///m.db", "run": "m"},
        "steps": {
            "ingest": old_step("cached"), "encode": old_step("succeeded"),
            "stage_1": {"status": "failed", "message": "loss is nan"},
        },
    }  # fmt: skip
    new = read_run_record(old, "record.json")
    assert (new.started, new.price_sheet, new.code.dirty) == (datetime(2026, 11, 23, 23, 59, 4, tzinfo=UTC), "", False)
    assert new.dataset is not None
    assert (new.dataset.tag, new.cost_usd) == ("nano-v1", Decimal("0.25"))
    assert {step: (each.status, each.cost_usd) for step, each in new.steps.items()} == {
        "ingest": ("reused", 0), "encode": ("succeeded", Decimal("0.5")), "stage_1": ("failed", 0),
    }  # fmt: skip
    assert new.steps["stage_1"].message == "loss is nan"


def test_a_record_of_a_cluster_of_version_1_is_read():
    old = {
        "schema": "zoetrope.run.v1", "run_id": "0f4c", "status": "FINISHED", "message": "", "pipeline": "data",
        "recipe": {"name": "nano", "digest": "r"}, "arguments": {}, "started": 1795600744.25, "finished": 1795600800.0,
        "code": {"commit": "abc+dirty", "images": {"core": "i@sha256:1"}}, "dataset": {}, "cost_usd": "0",
        "price_sheet": SHEET, "mlflow": {"tracking_uri": "", "run": ""}, "kubeflow": "", "steps": {},
    }  # fmt: skip
    new = read_run_record(old, "record.json")
    assert (new.code.commit, new.code.dirty, new.code.images) == ("abc", True, {"core": "i@sha256:1"})
    assert (new.started, new.dataset) == (datetime.fromtimestamp(1795600744, UTC), None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"schema": "zoetrope.run.v9"}, "a/record.json: a run record of schema 'zoetrope.run.v9', which is not known"),
        ({}, "a/record.json: a run record of schema None"),
        ({"schema": "zoetrope.run.v2"}, "a/record.json: a damaged run record"),
        ({"schema": "zoetrope.run.v1", "steps": {"x": {}}}, "a/record.json: a damaged run record"),
    ],
)
def test_what_is_no_record_is_named(value, message):
    with pytest.raises(ZoetropeError) as caught:
        read_run_record(value, "a/record.json")
    assert message in caught.value.headline
