"""`zoetrope runs` on a cluster: what KFP tells, pods' logs, cancel and retry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import open_store
from zoetrope.pipelines.kubeflow.logs import read_log, step_pods
from zoetrope.pipelines.kubeflow.tasks import node_id, task_places

WORKFLOW = "zoetrope-nano-full-abcde"


def detail(key: str, state: str, children: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    nodes = [{"pod_name": node_id(WORKFLOW, f"{WORKFLOW}.{child}")} for child in children]
    times = {"start_time": "2026-11-24T10:00:00Z", "end_time": "2026-11-24T10:01:30Z"}
    return {"display_name": key, "state": state, "child_tasks": nodes} | times | more


@pytest.fixture
def run(kubeflow: Any, compiled: dict[str, Any]) -> dict[str, Any]:
    """A run whose `ingest` came from the cache and whose `stage_1` was tried twice."""
    kubeflow.pipelines["p"] = {"pipeline_id": "p", "name": "zoetrope-nano-full", "display_name": "zoetrope-nano-full"}
    version = {"pipeline_id": "p", "pipeline_version_id": "v", "name": "v", "display_name": "v"}
    kubeflow.versions["v"] = version | {"pipeline_spec": {"pipeline_spec": compiled, "platform_spec": {}}}
    stage = "root.exit-handler-1.train-stage.executor"
    kubeflow.runs["r1"] = {
        "run_id": "r1",
        "display_name": "nano-full 1",
        "state": "FAILED",
        "created_at": "2026-11-24T09:59:00Z",
        "finished_at": "2026-11-24T10:02:00Z",
        "description": "recipe: nano",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "run_details": {
            "task_details": [
                detail("ingest", "SUCCEEDED", ("root.exit-handler-1.ingest.executor",)),
                detail("train-stage", "FAILED", (stage,), error={"message": "exit code 1"}),
                detail("executor", "FAILED", (f"{stage}(0)", f"{stage}(1)")),
                detail("executor(0)", "FAILED"),
                detail("executor(1)", "FAILED"),
            ]
        },
    }
    found: dict[str, Any] = kubeflow.runs["r1"]
    return found


def test_steps_are_named_ordered_and_counted(kubeflow: Any, zoetrope: Any, run: dict[str, Any]) -> None:
    said = zoetrope("runs", "show", "r1", "--host", kubeflow.url, "--json")
    assert said.code == 0, said.err
    shown = json.loads(said.out)
    steps = [(each["step"], each["state"], each["attempts"], each["seconds"]) for each in shown["steps"]]
    assert steps == [
        ("ingest", "reused", 0, 90.0), ("stage_1", "failed", 2, 90.0), ("finish", "not started", 0, None),
    ]  # fmt: skip
    assert (shown["state"], shown["seconds"], shown["link"]) == ("failed", 180.0, f"{kubeflow.url}/#/runs/details/r1")


def test_without_a_ui_there_is_no_link_until_one_is_named(kubeflow: Any, zoetrope: Any, run: dict[str, Any]) -> None:
    kubeflow.ui = False
    said = zoetrope("runs", "show", "r1", "--host", kubeflow.url)
    assert "link     none: name the Kubeflow UI by --ui URL or ZOETROPE_KUBEFLOW_URL" in said.out.splitlines()
    said = zoetrope("runs", "show", "r1", "--host", kubeflow.url, "--ui", "http://localhost:8080/")
    assert "link     http://localhost:8080/#/runs/details/r1" in said.out.splitlines()


def test_a_run_is_shown_for_people_with_its_verdict(
    kubeflow: Any, zoetrope: Any, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    monkeypatch.setenv("ZOETROPE_STORE", store.root)
    store.put_bytes("verdicts/r1/stage_1.json", b'{"headline": "stage_1: out of memory", "hint": "use less"}')
    said = zoetrope("runs", "show", "r1", "--host", kubeflow.url)
    assert "stage_1: out of memory\n  -> use less" in said.err
    assert [line.split() for line in said.out.splitlines() if "stage_1" in line] == [["stage_1", "failed", "1:30", "1"]]


def test_runs_are_listed_newest_last_and_only_ours(kubeflow: Any, zoetrope: Any, run: dict[str, Any]) -> None:
    kubeflow.pipelines["q"] = {"pipeline_id": "q", "name": "foreign", "display_name": "foreign"}
    foreign = {"pipeline_id": "q", "pipeline_version_id": "w"}
    kubeflow.runs = {
        "r2": run | {"run_id": "r2", "state": "RUNNING"},
        "x": run | {"run_id": "x", "pipeline_version_reference": foreign},
        "r1": run,
        "r0": run | {"run_id": "r0", "pipeline_version_reference": {"pipeline_id": "gone", "pipeline_version_id": "g"}},
    }
    rows = json.loads(zoetrope("runs", "list", "--host", kubeflow.url, "--json").out)
    assert [(row["run"], row["status"]) for row in rows] == [("r1", "failed"), ("r2", "running")]
    rows = json.loads(zoetrope("runs", "list", "--host", kubeflow.url, "--all", "--json").out)
    assert [row["run"] for row in rows] == ["r0", "r1", "x", "r2"]
    rows = json.loads(zoetrope("runs", "list", "--host", kubeflow.url, "--limit", "1", "--json").out)
    assert [row["run"] for row in rows] == ["r2"]


def test_the_environment_names_the_cluster_and_local_turns_back(
    kubeflow: Any, zoetrope: Any, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOETROPE_KFP_HOST", kubeflow.url)
    assert len(json.loads(zoetrope("runs", "list", "--json").out)) == 1
    assert zoetrope("runs", "list", "--local", "--store", str(tmp_path), "--json").out.strip() == "[]"
    assert zoetrope("runs", "list", "--local", "--host", "http://x").problem == "--local and --host name two places"


def test_a_run_that_is_not_there_is_one_line(kubeflow: Any, zoetrope: Any) -> None:
    for command in ("show", "logs", "cancel"):
        said = zoetrope("runs", command, "nowhere", "--host", kubeflow.url)
        assert (said.code, said.problem) == (2, f"no run nowhere at {kubeflow.url}")
    assert zoetrope("runs", "cancel", "r1").problem == "no cluster is named"


def test_cancel_terminates_what_is_running_alone(kubeflow: Any, zoetrope: Any, run: dict[str, Any]) -> None:
    assert zoetrope("runs", "cancel", "r1", "--host", kubeflow.url).out == "run r1 is failed\n"
    assert kubeflow.created == []
    run["state"] = "RUNNING"
    assert zoetrope("runs", "cancel", "r1", "--host", kubeflow.url).out == "run r1 is canceling\n"
    assert kubeflow.created == ["POST /apis/v2beta1/runs/r1:terminate"]


def test_retry_clears_the_verdicts_first(
    kubeflow: Any, zoetrope: Any, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = zoetrope("runs", "retry", "r1", "--host", kubeflow.url)
    assert (said.code, said.problem, kubeflow.created) == (2, "the store of the cluster is not named", [])
    store = open_store(tmp_path / "store")
    monkeypatch.setenv("ZOETROPE_STORE", store.root)
    for key in ("verdicts/r1/stage_1.json", "verdicts/r1/promote.json", "verdicts/r10/promote.json"):
        store.put_bytes(key, b"{}")
    said = zoetrope("runs", "retry", "r1", "--host", kubeflow.url)
    assert (said.code, said.out) == (0, "run r1 goes on; 2 verdicts removed\n")
    assert list(store.list("verdicts/")) == [store.uri("verdicts/r10/promote.json")]
    assert kubeflow.created == ["POST /apis/v2beta1/runs/r1:retry"]
    said = zoetrope("runs", "retry", "r1", "--host", kubeflow.url)
    assert (said.code, said.problem) == (2, "run r1 is running: there is nothing to retry")


def pod(name: str, node: str = "", phase: str = "Succeeded", container: str = "main", **labels: str) -> dict[str, Any]:
    state = {"running": {}} if phase == "Running" else {"terminated": {}}
    return {
        "metadata": {
            "name": name, "creationTimestamp": f"2026-11-24T10:00:0{len(name)}Z", "labels": labels,
            "annotations": {"workflows.argoproj.io/node-name": node} if node else {},
        },
        "status": {"phase": phase, "containerStatuses": [{"name": container, "state": state}]},
    }  # fmt: skip


class FakeCluster:
    """What a cluster tells of pods and jobs, as `zoetrope.infra.kubernetes.api.Cluster` does."""

    namespace = "runs"

    def __init__(self) -> None:
        handler = f"{WORKFLOW}(0).root(0).exit-handler-1(0)"
        self._pods = [
            pod("bb", f"{handler}.train-stage(0).executor(1)", "Running"),
            pod("a", f"{handler}.train-stage.executor(0)", "Failed"),
            pod("d", f"{handler}.train-stage-2(0).executor(0)"),
            pod("e", f"{handler}.train-stage-driver(0)"),
        ]

    def pods(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        if labels == {"pipeline/runid": "r1"}:
            return self._pods
        assert labels == {"jobset.sigs.k8s.io/jobset-name": "z1"}
        index = "batch.kubernetes.io/job-completion-index"
        return [pod("z1-1", container="node", **{index: "1"}), pod("z-0", container="node", **{index: "0"})]

    def list(self, kind: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        assert (kind, labels) == ("trainjobs", {"zoetrope/run": "r1", "zoetrope/step": "stage_1"})
        return [{"metadata": {"name": "z1", "labels": {"zoetrope/attempt": "2"}}}]

    def log(self, name: str, container: str, *, follow: bool, since: str) -> Any:
        from zoetrope.infra.kubernetes.streams import StreamBrokenError

        lines = [b"2026-11-24T10:00:01.1Z one", b"2026-11-24T10:00:01.2Z two", b"2026-11-24T10:00:02.1Z three"]
        if not since:
            yield from lines[:2]
            raise StreamBrokenError("connection lost")
        yield from lines


def test_the_pods_of_a_step_are_its_attempts_and_its_jobs_nodes(compiled: dict[str, Any]) -> None:
    (place,) = (each for each in task_places(compiled) if each.step == "stage_1")
    found = step_pods(FakeCluster(), "r1", place)
    assert [(each.pod, each.title, each.running) for each in found] == [
        ("a", "stage_1, attempt 1", False),
        ("bb", "stage_1, attempt 2", True),
        ("z-0", "stage_1, job z1 attempt 2, node 0", False),
        ("z1-1", "stage_1, job z1 attempt 2, node 1", False),
    ]


def test_a_followed_log_goes_on_over_a_broken_connection_without_repeating(compiled: dict[str, Any]) -> None:
    (place,) = (each for each in task_places(compiled) if each.step == "stage_1")
    log = step_pods(FakeCluster(), "r1", place)[1]
    assert list(read_log(FakeCluster(), log, follow=True)) == ["one", "two", "three"]
    with pytest.raises(ZoetropeError, match="connection lost"):
        list(read_log(FakeCluster(), log))


def test_logs_of_a_step_are_printed(
    kubeflow: Any, zoetrope: Any, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoetrope.pipelines.kubeflow.kubernetes.cluster", lambda namespace: FakeCluster())
    monkeypatch.setattr("zoetrope.pipelines.kubeflow.logs.read_log", lambda cluster, log, follow: [f"of {log.pod}"])
    said = zoetrope("runs", "logs", "r1", "stage_1", "--host", kubeflow.url)
    assert said.out.splitlines()[:2] == ["==> stage_1, attempt 1 (a) <==", "of a"]
    assert len(said.out.splitlines()) == 8
    said = zoetrope("runs", "logs", "r1", "stage_1", "--follow", "--host", kubeflow.url)
    assert said.out.splitlines()[-1] == "of bb"  # the step's own log ends with the step
    said = zoetrope("runs", "logs", "r1", "stage_9", "--host", kubeflow.url)
    assert (said.code, said.problem) == (2, "run r1 has no step 'stage_9'")
    said = zoetrope("runs", "logs", "r1", "--follow", "--host", kubeflow.url)
    assert (said.code, said.problem) == (2, "--follow follows one step")


def test_ids_of_nodes_are_those_of_argo() -> None:
    # The published test vectors of 32 bit FNV-1a for "a" and "foobar".
    assert node_id("wf", "wf") == "wf"
    assert node_id("wf", "a") == f"wf-{0xE40C292C}"
    assert node_id("wf", "foobar") == f"wf-{0xBF9CF968}"
