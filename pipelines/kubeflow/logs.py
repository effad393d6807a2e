"""Logs of the steps of a run, from the pods: of the step itself and of its TrainJob."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import RUN, STEP, attempt_of, pods_of
from zoetrope.pipelines.kubeflow.tasks import EXECUTOR, TaskPlace, plain

NODE_NAME = "workflows.argoproj.io/node-name"
MAIN, NODE = "main", "node"
RECONNECTS = 5


@dataclass(frozen=True)
class PodLog:
    """A pod whose log belongs to a step.

    Attributes:
        pod: its name.
        container: the container that does the work.
        title: for a person.
        running: whether more may come.
        started: whether there is a log at all.
    """

    pod: str
    container: str
    title: str
    running: bool
    started: bool


def step_pods(cluster: Any, run_id: str, place: TaskPlace) -> list[PodLog]:
    """The pods of one step, its attempts first, then the nodes of its jobs, in the order of creation."""
    pods = sorted(cluster.pods({"pipeline/runid": run_id}), key=_created)
    found = [
        _pod(pod, MAIN, f"{place.step}, attempt {number}")
        for number, pod in enumerate((pod for pod in pods if _belongs(pod, place)), start=1)
    ]
    jobs = sorted(cluster.list("trainjobs", {RUN: run_id, STEP: place.step}), key=_created)
    for job in jobs:
        name = str(job["metadata"]["name"])
        for pod in sorted(cluster.pods(pods_of(name)), key=_created):
            index = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-completion-index", "0")
            found.append(_pod(pod, NODE, f"{place.step}, job {name} attempt {attempt_of(job)}, node {index}"))
    return found


def followed_last(pods: list[PodLog]) -> list[PodLog]:
    """The pods with the one at their end whose log goes on until the step ends.

    That is the step's own: it passes on what node 0 of its job says, also when that pod is replaced.
    """
    own = [pod for pod in pods if pod.container == MAIN and pod.running]
    return [pod for pod in pods if pod not in own[-1:]] + own[-1:]


def _belongs(pod: Mapping[str, Any], place: TaskPlace) -> bool:
    node = str((pod["metadata"].get("annotations") or {}).get(NODE_NAME, ""))
    return plain(node).partition(".")[2] == f"{place.path}.{EXECUTOR}"


def _pod(pod: Mapping[str, Any], container: str, title: str) -> PodLog:
    status = pod.get("status", {})
    states = {str(each.get("name")): each.get("state") or {} for each in status.get("containerStatuses") or []}
    state = states.get(container, {})
    return PodLog(
        pod=str(pod["metadata"]["name"]),
        container=container,
        title=title,
        running=status.get("phase") in ("Pending", "Running"),
        started="running" in state or "terminated" in state,
    )


def _created(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"].get("creationTimestamp", ""))


def read_log(cluster: Any, log: PodLog, *, follow: bool = False) -> Iterator[str]:
    """The lines of a pod's log; with `follow` until the container ends, also over broken connections.

    Raises:
        ZoetropeError: we may not read it, or Kubernetes stays away.
    """
    from zoetrope.infra.kubernetes.streams import StreamBrokenError

    last, known, again = "", "", 0
    while True:
        try:
            for line in cluster.log(log.pod, log.container, follow=follow, since=last):
                time, _, text = line.decode("utf-8", "replace").partition(" ")
                if time <= known:  # a log that is read on begins with the second that was the last
                    continue
                last, again = time, 0
                yield text
        except StreamBrokenError as error:
            again, known = again + 1, last
            if not follow or again > RECONNECTS:
                raise ZoetropeError(f"log of pod {log.pod}: {error}", "run it again", retryable=True) from error
            continue
        return
