"""`zoetrope cost report` with the pods of a cluster beside steps of this machine."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from zoetrope.infra.ledger import LedgerChain, PodFacts, PodLedger
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import open_store
from zoetrope.pipelines.cli import common
from zoetrope.pipelines.cli.cost import app


@pytest.fixture
def report(monkeypatch):
    def run(state, *arguments):
        page = io.StringIO()
        monkeypatch.setattr(common, "output", Console(file=page, width=200))
        result = CliRunner().invoke(app, ["report", "--store", str(state), "--prices", "local-2026-11", *arguments])
        assert result.exit_code == 0, result.output
        return result.output + page.getvalue()

    return run


def step(store, clock):
    chain = LedgerChain(store, "run-1", "curate", 1, clock=lambda: clock[0])
    chain.allocate(Resources(cpu=1, memory_gb=1))
    clock[0] += 3600
    chain.outcome("succeeded")


def test_pods_are_lines_with_their_source(report, tmp_path):
    store = open_store(tmp_path / "store")
    step(store, [1000.0])
    pod = PodFacts(
        uid="u1", pod="z1-node-0-0-abcde", namespace="n", step="stage_1", attempt=2, role="job", job="z1",
        resources=Resources(cpu=2, memory_gb=0), gpu_resource="", node="n1", node_type="m7i.xlarge",
        created=4000.0, scheduled=5000.0, ended=5000.0 + 1800,
    )  # fmt: skip
    PodLedger(store, "run-1").record(pod, 9e9)
    first, second = json.loads(report(tmp_path, "run-1", "--json"))
    assert (first["source"], first["pod"], first["USD"]) == ("step", "", "0.003120")
    assert {key: second[key] for key in ("step", "attempt", "source", "role", "pod", "node_type", "queued", "USD")} == {
        "step": "stage_1", "attempt": 2, "source": "pod", "role": "job", "pod": "z1-node-0-0-abcde",
        "node_type": "m7i.xlarge", "queued": "1000", "USD": "0.003000",
    }  # fmt: skip
    assert "m7i.xlarge" in report(tmp_path)


def test_runs_of_this_machine_show_no_columns_of_a_cluster(report, tmp_path):
    step(open_store(tmp_path / "store"), [1000.0])
    assert "node type" not in report(tmp_path)
