"""Steps of real runs, as KFP 2.17.0 and Argo 4.0.5 reported them: KFP loses sight of a run of compressed nodes."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import open_store
from zoetrope.pipelines.kubeflow.logs import step_pods
from zoetrope.pipelines.kubeflow.tasks import task_places

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
STEPS = ["resolve", "ingest", "stage_1", "stage_2", "stage_3", "finish"]
Show = Callable[..., list[list[Any]]]


class Workflows:
    """The cluster's answer to the question for a run's Workflow."""

    def __init__(self, nodes: dict[str, Any] | None, *, compressed: bool = True) -> None:
        self.asked = 0
        self._nodes, self._compressed = nodes, compressed

    def list(self, kind: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        self.asked += 1
        assert (kind, list(labels)) == ("workflows", ["pipeline/runid"])
        if self._nodes is None:
            raise ZoetropeError("not reachable", "")
        packed = base64.b64encode(gzip.compress(json.dumps(self._nodes).encode())).decode()
        return [{"status": {"compressedNodes": packed} if self._compressed else {"nodes": self._nodes}}]


@pytest.fixture
def show(kubeflow: Any, zoetrope: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """Shows a recorded run; returns [step, state, attempts] of each step."""

    def call(recorded: dict[str, Any], workflows: Workflows | None = None, **changes: Any) -> list[list[Any]]:
        if workflows is not None:
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
            monkeypatch.setattr(
                "zoetrope.pipelines.kubeflow.kubernetes.cluster", lambda namespace, retry_seconds=None: workflows
            )
        kubeflow.runs["r1"] = recorded["run"] | {"run_id": "r1", "pipeline_spec": RECORDED["spec"]} | changes
        said = zoetrope("runs", "show", "r1", "--host", kubeflow.url, "--json")
        assert said.code == 0, said.err
        return [[each["step"], each["state"], each["attempts"]] for each in json.loads(said.out)["steps"]]

    return call


def states(rows: list[list[Any]]) -> list[str]:
    assert [row[0] for row in rows] == STEPS
    return [row[1] for row in rows]


def test_the_workflow_tells_of_every_step_though_its_nodes_are_compressed(show: Show) -> None:
    rows = show(RECORDED["full"], Workflows(RECORDED["full"]["nodes"]))
    assert states(rows) == ["succeeded"] * 6
    assert [row[2] for row in rows] == [1] * 6


def test_kfp_hands_out_the_workflow_where_kubernetes_cannot(show: Show, kubeflow: Any) -> None:
    packed = base64.b64encode(gzip.compress(json.dumps(RECORDED["full"]["nodes"]).encode())).decode()
    kubeflow.workflows["r1"] = {"status": {"compressedNodes": packed}}
    for workflows in (None, Workflows(None)):
        assert [row[1:] for row in show(RECORDED["full"], workflows, state="FAILED")] == [["succeeded", 1]] * 6


def test_a_terminated_run_is_cancelled_though_kfp_lists_it_as_failed(show: Show, kubeflow: Any, zoetrope: Any) -> None:
    nodes = change(RECORDED["full"]["nodes"], ".train-stage-2", phase="Failed")
    kubeflow.workflows["r1"] = {"status": {"nodes": nodes}}
    assert show(RECORDED["full"], state="FAILED")[3] == ["stage_2", "failed", 1]
    # as KFP 2.17 tells it, the entry without a state included
    history = [{"state": "PENDING"}, {}, {"state": "RUNNING"}, {"state": "CANCELING"}, {"state": "FAILED"}]
    assert show(RECORDED["full"], state="FAILED", state_history=history)[3] == ["stage_2", "cancelled", 1]
    assert zoetrope("runs", "show", "r1", "--host", kubeflow.url).err.splitlines()[-1] == "the run was cancelled"
    (row,) = json.loads(zoetrope("runs", "list", "--host", kubeflow.url, "--all", "--json").out)
    assert row["status"] == "cancelled"
    retried = [*history, {"state": "RUNNING"}, {"state": "FAILED"}]
    assert show(RECORDED["full"], state="FAILED", state_history=retried)[3] == ["stage_2", "failed", 1]


def test_steps_without_a_container_are_cached(show: Show) -> None:
    again = RECORDED["again"]
    expected = ["succeeded", "reused", "reused", "reused", "reused", "succeeded"]
    assert states(show(again)) == expected
    assert states(show(again, Workflows(again["nodes"], compressed=False))) == expected


def test_kfp_alone_is_believed_as_far_as_it_can_know(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = show(RECORDED["full"])
    assert rows[:3] == [["resolve", "succeeded", 1], ["ingest", "succeeded", 1], ["stage_1", "succeeded", 1]]
    # KFP's list says that stage_2 runs and that stage_3 has not begun.
    assert states(rows)[3:] == ["succeeded"] * 3
    assert states(show(RECORDED["full"], state="FAILED"))[3:] == ["unknown"] * 3


def test_a_cluster_that_does_not_answer_is_done_without(show: Show) -> None:
    workflows = Workflows(None)
    assert states(show(RECORDED["full"], workflows)) == ["succeeded"] * 6
    assert workflows.asked == 1


def test_the_store_tells_what_kfp_has_lost(show: Show, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    monkeypatch.setenv("ZOETROPE_STORE", store.root)
    store.put_bytes("runs/r1/steps/stage_2.json", b'{"record": "a", "product": "b"}')
    store.put_bytes("verdicts/r1/stage_3.json", b'{"headline": "stage_3: out of memory", "hint": "use less"}')
    assert states(show(RECORDED["full"], state="FAILED"))[3:] == ["succeeded", "failed", "unknown"]


def change(nodes: dict[str, Any], end: str, **fields: Any) -> dict[str, Any]:
    (found,) = (key for key, node in nodes.items() if node["name"].endswith(end))
    return nodes | {found: nodes[found] | fields}


def test_tries_are_counted_and_a_failure_is_reported(show: Show) -> None:
    nodes = dict(RECORDED["full"]["nodes"])
    (first,) = (node for node in nodes.values() if node["name"].endswith(".train-stage-2(0).executor(0)"))
    nodes["second"] = first | {"name": first["name"].replace("executor(0)", "executor(1)"), "phase": "Running"}
    running = change(nodes, ".train-stage-2", phase="Running")
    assert show(RECORDED["full"], Workflows(running), state="RUNNING")[3] == ["stage_2", "running", 2]
    failed = change(nodes, ".train-stage-2", phase="Failed")
    assert show(RECORDED["full"], Workflows(failed), state="FAILED")[3] == ["stage_2", "failed", 2]
    assert show(RECORDED["full"], Workflows(failed), state="CANCELED")[3] == ["stage_2", "cancelled", 2]


def test_a_step_whose_driver_fails_has_failed_and_later_ones_have_not_started(show: Show) -> None:
    nodes = change(RECORDED["full"]["nodes"], ".train-stage-3-driver", phase="Error", message="no such input")
    nodes = change(nodes, ".train-stage-3", phase="Omitted")
    left = {key: node for key, node in nodes.items() if ".finish" not in node["name"]}
    assert states(show(RECORDED["full"], Workflows(left), state="FAILED"))[4:] == ["failed", "not started"]
    assert states(show(RECORDED["full"], Workflows(left), state="RUNNING"))[5:] == ["waiting"]


def test_pods_of_a_step_are_found_by_the_names_that_argo_gives_them() -> None:
    nodes = RECORDED["full"]["nodes"].values()

    class Pods:
        def pods(self, labels: dict[str, str]) -> list[dict[str, Any]]:
            return [
                {"metadata": {"name": node["name"], "annotations": {"workflows.argoproj.io/node-name": node["name"]}}}
                for node in nodes
                if node["type"] == "Pod"
            ]

        def list(self, kind: str, labels: dict[str, str]) -> list[dict[str, Any]]:
            return []

    for place in task_places(RECORDED["spec"]):
        (found,) = step_pods(Pods(), "r1", place)
        assert found.pod.endswith(f".{place.key}(0).executor(0)")
