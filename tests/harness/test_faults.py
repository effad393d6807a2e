"""What the fault injection counts, on recorded facts: its counters have to be able to be other than 0."""

from __future__ import annotations

import json
import types

import pytest

from tests.e2e import cases, cluster, faults, invariants
from tests.e2e.cases import common, hopeless, stopped
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger.chain import LedgerChain
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import open_store


def job(uid, attempt=1, step="stage_1"):
    return {
        "metadata": {"uid": uid, "name": "zjob", "labels": {"zoetrope/step": step, "zoetrope/attempt": str(attempt)}}
    }


def pod(generation, attempt=1, name="pod"):
    labels = {invariants.JOBSET: "zjob", invariants.GENERATION: generation, "zoetrope/attempt": str(attempt)}
    return {"metadata": {"name": name, "labels": {**labels, "zoetrope/step": "stage_1"}}}


def step_pod(name):
    return {"metadata": {"name": name, "labels": {"zoetrope/step": "stage_1"}}}


@pytest.mark.parametrize(
    ("jobs", "pods", "found"),
    [
        ([job("a")], [pod("x"), pod("x")], []),
        ([job("a"), job("b", attempt=2)], [pod("x"), pod("y", attempt=2)], []),
        ([job("a"), job("b")], [], ["stage_1 attempt 1: 2 jobs"]),
        ([job("a")], [pod("x"), pod("y")], ["zjob attempt 1: its pods ran 2 times"]),
        ([job("a")], [pod("x"), step_pod("launcher")], []),
    ],
)
def test_an_attempt_that_ran_twice_is_doubled(jobs, pods, found):
    assert invariants.doubled(jobs, pods) == found


def test_a_pod_that_the_ledger_does_not_know_is_lost(tmp_path):
    store = open_store(str(tmp_path))
    chain = LedgerChain(store, "run", "stage_1", 1)
    chain.allocate(Resources(cpu=1, memory_gb=1), pod="launcher")
    seen = {"1": step_pod("launcher"), "2": step_pod("another"), "3": pod("x", name="launcher")}
    # A job's pod counts by its own chain alone, whatever a step noted.
    assert invariants.missing(store, "run", seen) == ["no chain of another", "no chain of launcher"]


def test_what_cannot_be_seen_is_not_gone(monkeypatch):
    def away(kind, labels):
        raise ZoetropeError("the API server does not answer")

    monkeypatch.setattr(
        cluster, "connected", lambda: types.SimpleNamespace(list=away, pods=lambda labels: away("", labels))
    )
    run = types.SimpleNamespace(run_id="run")
    assert cluster.items("pods", "a=b") == []
    assert cluster.Run.left(run) == ["the API server is away"]
    assert not cluster.Run.is_deleted(run)


def test_only_what_the_launcher_says_of_its_job_counts(monkeypatch):
    text = '{"ZOETROPE_IMAGE": "pull"}\nzoetrope: stage_1: job zx: 2 pods: 2 pending\n'
    monkeypatch.setattr(common, "log", lambda pod, container="": text)
    run = types.SimpleNamespace(launcher=lambda step: "launcher")
    assert common.told(run, "stage_1") == "zoetrope: stage_1: job zx: 2 pods: 2 pending"
    assert not hopeless._holds(common.told(run, "stage_1"), ("pull",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "FOLDER", tmp_path)
    return tmp_path


class Watched:
    """Stands in for a run."""

    run_id = "run"

    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


def test_results_are_kept_and_what_was_wrong_stays_told(folder, monkeypatch, capsys):
    answers = [[common.Seen("gone", [], 12.0)], [common.Seen("gone", ["late"], 99.0)], [common.Seen("gone", [], 14.0)]]
    monkeypatch.setitem(faults.CASES, "terminated", lambda number, runs: answers.pop(0))
    faults.run("terminated", 2)
    assert [each["wrong"] for each in faults.load("terminated")] == [[], ["late"]]
    faults.run("terminated", 2)  # nothing is left to do
    assert len(answers) == 1
    faults.put_aside("terminated")
    faults.run("terminated", 2)
    assert [each["took"] for each in faults.load("terminated")] == [12.0, 14.0]
    row = next(line for line in faults.table().splitlines() if line.startswith("| terminated |"))
    assert row == "| terminated | 2 | 0 | 0 | 0 | 0 | 12 to 14 | gone | 1 with something wrong, done again |"
    assert "terminated 2: late" in capsys.readouterr().out


def test_a_repetition_that_breaks_off_is_bad_and_its_run_is_cancelled(folder, monkeypatch):
    watched, cancelled = Watched(), []

    def breaks(number, runs):
        runs.append(watched)
        raise TimeoutError("the job is gone: not within 120 s")

    monkeypatch.setitem(faults.CASES, "terminated", breaks)
    monkeypatch.setattr(faults, "zoetrope", lambda *arguments, check: cancelled.append(arguments))
    monkeypatch.setattr(faults, "broken_promises", lambda run: {"orphans": ["zjob"]})
    (result,) = faults.repeat("terminated", 0)
    assert cancelled == [("runs", "cancel", "run")]
    assert watched.closed
    assert result["counters"] == {"doubled jobs": 0, "orphans": 1, "lost ledger events": 0, "wrong verdicts": 1}
    json.dumps(result)


def test_a_case_without_its_variables_is_not_run(folder, monkeypatch, capsys):
    monkeypatch.delenv("API_STOP", raising=False)
    monkeypatch.setenv("API_START", "true")
    faults.run("api_server_away", 5)
    assert capsys.readouterr().out == "api_server_away: not run, API_STOP not set\n"
    assert faults.load("api_server_away") == []
    assert cases.NEEDS.keys() <= cases.CASES.keys()


def test_a_job_that_is_left_too_long_is_wrong(monkeypatch):
    times = iter([100.0, 161.0])
    monkeypatch.setattr(stopped.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(stopped, "wait", lambda what, found, seconds: True)
    run = types.SimpleNamespace()
    assert stopped._gone(run, 100.0, 61.0).wrong == []
    assert stopped._gone(run, 100.0, 60.0).wrong == ["the job was there for 61 s"]
