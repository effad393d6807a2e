"""Where the steps of a compiled pipeline stand in the workflow that Argo runs.

Where KFP hands out the workflow, nodes are found by their names (`nodes`). Where it does not, its API lists them
without their own ids, only with those of their children. Argo computes an id from the node's name
(`argo/workflow/util`: workflow name and 32 bit FNV-1a), so the attempts of a step are found by looking for the ids that
they must have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EXECUTOR = "executor"


@dataclass(frozen=True)
class TaskPlace:
    """One task of a pipeline.

    Attributes:
        step: name for people, e.g. `stage_2`.
        key: KFP's own name, e.g. `train-stage-2`.
        path: of the task's node below the workflow, without numbers of attempts, e.g. `root.train-stage-2`.
        retries: whether Argo tries the task again by itself.
    """

    step: str
    key: str
    path: str
    retries: bool

    @property
    def executor(self) -> str:
        """Path of the node in which the task's container runs."""
        return f"{self.path}.{EXECUTOR}"

    @property
    def driver(self) -> str:
        """Path of the node that looks the task up in the cache and prepares its pod."""
        return f"{self.path}-driver"


def task_places(spec: Mapping[str, Any]) -> list[TaskPlace]:
    """The tasks of a pipeline in the order in which they may start.

    Args:
        spec: KFP's pipeline specification, as compiled or as the API gives it back.
    """
    inner = spec.get("pipeline_spec", spec)
    return list(_places(inner, inner.get("root", {}).get("dag", {}), "root"))


def _places(spec: Mapping[str, Any], dag: Mapping[str, Any], path: str) -> Iterator[TaskPlace]:
    tasks: Mapping[str, Any] = dag.get("tasks", {})
    for key in _ordered(tasks):
        task = tasks[key]
        component = spec.get("components", {}).get(task.get("componentRef", {}).get("name", ""), {})
        place = f"{_parent(path, task)}.{key}"
        if "dag" in component:
            yield from _places(spec, component["dag"], place)
            continue
        name = str(task.get("taskInfo", {}).get("name") or key)
        yield TaskPlace(name, key, place, bool(task.get("retryPolicy", {}).get("maxRetryCount")))


def _parent(path: str, task: Mapping[str, Any]) -> str:
    """An exit task stands below what it waits for: KFP makes a hook of Argo's from it."""
    before = task.get("dependentTasks", ())
    at_exit = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
    return f"{path}.{before[0]}.onExit" if at_exit and before else path


def _ordered(tasks: Mapping[str, Any]) -> list[str]:
    left, done = dict(tasks), list[str]()
    while left:
        ready = [key for key in left if not set(left[key].get("dependentTasks", ())) & left.keys()]
        for key in ready or list(left):  # a circle cannot be compiled; if there were one, nothing may hang here
            done.append(key)
            del left[key]
    return done


def node_id(workflow: str, node: str) -> str:
    """Argo's id of a node, which is also the end of its pod's name."""
    value = 0x811C9DC5
    for byte in node.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return workflow if node == workflow else f"{workflow}-{value}"


def attempts(place: TaskPlace, children: set[str]) -> int:
    """How often the task's container was started, by the ids of all nodes' children.

    Each node on the way to it may have been tried more than once, which puts `(0)`, `(1)` behind its name.
    """
    workflow = _workflow(children)
    if not workflow:
        return 0
    names, whole, tried = [workflow], list[str](), list[str]()
    for part in ("", *place.path.split("."), EXECUTOR):
        whole = [f"{name}.{part}" if part else name for name in names]
        tried = [each for name in whole for each in _tries(name, workflow, children)]
        names = tried + whole
    if place.retries or tried:  # an untried node is there too where the cache answered
        return len(tried)
    return sum(node_id(workflow, name) in children for name in whole)


def _tries(name: str, workflow: str, children: set[str]) -> list[str]:
    found: list[str] = []
    while node_id(workflow, f"{name}({len(found)})") in children:
        found.append(f"{name}({len(found)})")
    return found


def _workflow(children: set[str]) -> str:
    """The workflow's name: what stands before the last number of every id."""
    for child in children:
        name, dash, number = child.rpartition("-")
        if dash and number.isdigit():
            return name
    return ""
