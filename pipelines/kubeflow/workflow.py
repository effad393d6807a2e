"""The steps of a run as its Argo Workflow has them.

KFP's API tells of the same nodes, but only as long as Argo writes them in the clear: beyond a size they are
compressed, KFP does not unpack them, and its list of tasks stays as it was then, also after the run has ended.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.store import Store
from zoetrope.pipelines.kubeflow.tasks import EXECUTOR, TaskPlace, plain
from zoetrope.pipelines.kubeflow.views import ENDED, StepView, seconds_between

Node = Mapping[str, Any]
_STATES = {"Succeeded": "succeeded", "Failed": "failed", "Error": "failed", "Omitted": "not started"}
_BROKEN = ("Failed", "Error")


@dataclass
class RunSources:
    """What can be asked beside KFP's API.

    Attributes:
        cluster: `zoetrope.infra.kubernetes.api.Cluster`, None where there is no kubeconfig or it does not answer.
        store: of the runs, None where it is not named.
    """

    cluster: Any = None
    store: Store | None = None
    _answered: bool = False

    @classmethod
    def find(cls, namespace: str, store: Store | None) -> RunSources:
        """By the kubeconfig, where there is one."""
        from zoetrope.pipelines.kubeflow.kubernetes import cluster, has_kubeconfig

        try:
            return cls(cluster(namespace, retry_seconds=0.0) if has_kubeconfig() else None, store)
        except ZoetropeError:
            return cls(None, store)

    def workflow(self, run_id: str) -> Node | None:
        """The run's Workflow; None where it cannot be read, and an hour after its end, when KFP deletes it."""
        try:
            found = self.cluster.list("workflows", {"pipeline/runid": run_id}) if self.cluster is not None else []
        except ZoetropeError:
            if not self._answered:  # another cluster's kubeconfig, or one without the right: not to be asked each time
                self.cluster = None
            return None
        self._answered = True
        return found[0] if found else None

    def run_files(self, run_id: str) -> RunFiles | None:
        """The run's place in the store."""
        return RunFiles(self.store, run_id) if self.store is not None else None


def workflow_nodes(workflow: Mapping[str, Any]) -> list[Node]:
    """Nodes of a Workflow, compressed or not; empty where Argo keeps them in a database."""
    status = workflow.get("status") or {}
    nodes = status.get("nodes") or {}
    if status.get("compressedNodes"):
        nodes = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
    return list(nodes.values())


def step_views(places: Iterable[TaskPlace], nodes: Iterable[Node], run_state: str) -> list[StepView]:
    """The steps of a run.

    Args:
        places: tasks of the pipeline.
        nodes: of the Workflow.
        run_state: KFP's state of the run, e.g. `RUNNING`.
    """
    by_place: dict[str, list[Node]] = {}
    for node in nodes:
        by_place.setdefault(plain(str(node["name"])).partition(".")[2], []).append(node)
    return [_view(place, by_place, run_state) for place in places]


def _view(place: TaskPlace, by_place: Mapping[str, list[Node]], run_state: str) -> StepView:
    driver, task = _outer(by_place.get(f"{place.path}-driver", [])), _outer(by_place.get(place.path, []))
    executor = by_place.get(f"{place.path}.{EXECUTOR}", [])
    pods = sorted((node for node in executor if node["type"] == "Pod"), key=lambda node: str(node.get("startedAt")))
    if driver is not None and driver["phase"] in _BROKEN:
        return StepView(place.step, _failed(run_state), _seconds([driver]), 0, _message(driver))
    if task is None:
        return StepView(place.step, "not started" if run_state in ENDED else "waiting", None, 0)
    state = _STATES.get(str(task["phase"]), "running")
    if not pods:
        # KFP leaves the container out where it has an answer.
        words = {"succeeded": "reused", "running": "waiting", "failed": _failed(run_state)}
        return StepView(place.step, words.get(state, state), None, 0, _message(task) if state == "failed" else "")
    if state == "running" and len(pods) == 1 and pods[0]["phase"] == "Pending":
        state = "waiting"
    error = next((said for node in reversed(pods) if (said := _message(node))), "") if state == "failed" else ""
    seconds = _seconds(pods, open_end=state in ("running", "waiting"))
    return StepView(place.step, _failed(run_state) if state == "failed" else state, seconds, len(pods), error)


def _failed(run_state: str) -> str:
    return "cancelled" if run_state in ("CANCELED", "CANCELING") else "failed"


def _outer(nodes: list[Node]) -> Node | None:
    """The node that stands for all tries of a task: the one whose name has no number at its end."""
    return min(nodes, key=lambda node: len(str(node["name"])), default=None)


def _message(node: Node) -> str:
    return " ".join(str(node.get("message") or "").split())


def _seconds(nodes: list[Node], *, open_end: bool = False) -> float | None:
    """From the first start to the last end; to now with `open_end`."""
    start = _time(nodes[0].get("startedAt"))
    return seconds_between(start, None if open_end else _time(nodes[-1].get("finishedAt")))


def _time(value: Any) -> datetime | None:
    return datetime.fromisoformat(str(value)) if value else None
