"""Where the steps of a compiled pipeline stand in the workflow that Argo runs.

KFP's API lists the nodes of a workflow without their own ids, only with those of their children. Argo computes an id
from the node's name (`argo/workflow/util`: workflow name and 32 bit FNV-1a), so the attempts of a step are found by
looking for the ids that they must have.
"""

from __future__ import annotations

import re
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
        path: of the task's node below the workflow, without the numbers of tries (`plain`), e.g.
            `root.exit-handler-1.train-stage-2`.
        retries: whether Argo tries the task again by itself.
    """

    step: str
    key: str
    path: str
    retries: bool


def plain(node: str) -> str:
    """Argo's name of a node without the numbers of tries, `wf(0).root(0).ingest(1)` -> `wf.root.ingest`.

    Which nodes have one depends on where the workflow, or the controller's defaults, ask for retries.
    """
    return re.sub(r"\(\d+\)", "", node)


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
        if "dag" in component:
            yield from _places(spec, component["dag"], f"{path}.{key}")
            continue
        name = str(task.get("taskInfo", {}).get("name") or key)
        yield TaskPlace(name, key, f"{path}{_hook(task)}.{key}", bool(task.get("retryPolicy", {}).get("maxRetryCount")))


def _hook(task: Mapping[str, Any]) -> str:
    """KFP makes an exit task a hook of the task whose end it waits for."""
    before = task.get("dependentTasks") or [""]
    always = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
    return f".{before[0]}.onExit" if always and before[0].startswith("exit-handler-") else ""


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
    """How often the task's container was started, by the ids of all nodes' children."""
    workflow = _workflow(children)
    if not workflow:
        return 0
    outer = [workflow, *place.path.split(".")]
    # The hook itself is no node, but a part of the name of one.
    nested = ".".join(f"{part}(0)" for part in outer).replace("(0).onExit(0)", ".onExit(0)")
    return max(_tries(workflow, f"{parent}.{EXECUTOR}", children, place) for parent in (".".join(outer), nested))


def _tries(workflow: str, executor: str, children: set[str], place: TaskPlace) -> int:
    count = 0
    while node_id(workflow, f"{executor}({count})") in children:
        count += 1
    return count or int(not place.retries and node_id(workflow, executor) in children)


def _workflow(children: set[str]) -> str:
    """The workflow's name: what stands before the last number of every id."""
    for child in children:
        name, dash, number = child.rpartition("-")
        if dash and number.isdigit():
            return name
    return ""
