"""Follows a job to its end with three watches, and its Workflow, which says when it is to be stopped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes import Cluster, Stop
from zoetrope.infra.kubernetes.api import event_time
from zoetrope.infra.kubernetes.jobs import pods_of
from zoetrope.infra.kubernetes.workflows import end_reason
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.failure import Failure, Kind, classify
from zoetrope.infra.launch.trainjob.logs import NodeLog, log_tail
from zoetrope.infra.launch.trainjob.pods import History, Pod, has_node, phase
from zoetrope.infra.launch.trainjob.state import JobState, belongs

TICK_SECONDS = 5.0
EVENTS_SECONDS = 20.0
LOG_END_SECONDS = 3.0
# After a bare SIGTERM there are less than 0.4 s.
THREAD_END_SECONDS = 0.1


class CancelledError(Exception):
    """The run was terminated or deleted, and its job has to go."""


@dataclass
class Ending:
    """How a job ended.

    Attributes:
        state: the last that was seen of it.
        failure: None for a job that ended well.
        log: the end of the log that says most about a failure.
    """

    state: JobState
    failure: Failure | None
    log: list[str]


def follow(
    cluster: Cluster,
    state: JobState,
    *,
    workflow: str = "",
    on_status: Callable[[str], None],
    on_log_line: Callable[[str], None],
    on_scheduled: Callable[[], bool] = lambda: True,
) -> Ending:
    """Waits for the end of a job.

    Args:
        cluster: where it runs.
        state: the job as it is now.
        workflow: name of the Argo Workflow that the job works for; empty for none.
        on_status: called with one line whenever something changes.
        on_log_line: called with each line of node 0's log.
        on_scheduled: called when more of the job's pods have been given a node, and again until it returns True; must
            not block.

    Raises:
        CancelledError: the Workflow was terminated or is gone.
        ZoetropeError: the API server was away for too long; the job goes on.
    """
    name = str(state.job["metadata"]["name"])
    with _watching(cluster, name, workflow) as (news, stop):
        log = NodeLog(cluster, on_log_line, stop)
        try:
            return _wait(cluster, state, news, log, on_status, on_scheduled)
        finally:
            # A thread that still writes while Python shuts down would abort the process.
            stop.set()
            log.finish(THREAD_END_SECONDS)


def _wait(
    cluster: Cluster,
    state: JobState,
    news: queue.SimpleQueue[Any],
    log: NodeLog,
    on_status: Callable[[str], None],
    on_scheduled: Callable[[], bool],
) -> Ending:
    asked, known = 0.0, 0
    while True:
        _take(news, state, log)
        now = time.time()
        placed = sum(has_node(pod) for pod in state.history.pods)
        if placed > known and on_scheduled():
            known = placed
        if state.deleted and not state.over:
            return Ending(state, Failure(kind=Kind.DELETED, message="deleted from outside"), [])
        if state.over:
            # The watches on job and pods are not in step: a short job may have ended before its pods were seen.
            refresh(cluster, state)
            for pod in state.history.present:
                log.see(pod)
            log.finish(LOG_END_SECONDS)
            on_status("complete" if state.complete else "failed")
            return Ending(state, None, []) if state.complete else explained(cluster, state, list(log.tail))
        if state.waiting_for_start() and now - asked >= EVENTS_SECONDS and now - state.created >= EVENTS_SECONDS:
            state.see_warnings(_events(cluster, state))
            asked = now
        if failure := state.stuck(now):
            return Ending(state, failure, [])
        if text := state.news(now):
            on_status(text)


def _take(news: queue.SimpleQueue[Any], state: JobState, log: NodeLog) -> None:
    """Waits for news for a while and takes in all that there are."""
    try:
        item = news.get(timeout=TICK_SECONDS)
        while True:
            _take_one(item, state, log)
            item = news.get_nowait()
    except queue.Empty:
        return


def _take_one(item: Any, state: JobState, log: NodeLog) -> None:
    if isinstance(item, Exception):
        raise item
    kind, event = item
    if kind == "trainjobs":
        state.see_job(event, time.time())
    elif kind == "workflows":
        if event["type"] == "DELETED" or end_reason(event["object"]):
            raise CancelledError
    elif belongs(event["object"], state.job):
        state.see_pod(event)
        log.see(event["object"], gone=event["type"] == "DELETED")


@contextmanager
def _watching(cluster: Cluster, name: str, workflow: str) -> Iterator[tuple[queue.SimpleQueue[Any], Stop]]:
    """Watches in threads of their own, which do nothing but hand over what they see."""
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = Stop()
    targets: list[tuple[str, str, dict[str, str]]] = [("pods", "", pods_of(name)), ("trainjobs", name, {})]
    if workflow:
        targets.append(("workflows", workflow, {}))

    def watch(kind: str, target: str, labels: dict[str, str]) -> None:
        try:
            # One endless watch: its memory of what was there tells of what vanished meanwhile.
            for event in cluster.watch(kind, target, float("inf"), labels=labels, stop=stop):
                news.put((kind, event))
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            if not stop.is_set:
                news.put(error)

    threads = [threading.Thread(target=watch, args=each, name=f"watch {each[0]}", daemon=True) for each in targets]
    for thread in threads:
        thread.start()
    try:
        yield news, stop
    finally:
        stop.set()
        ends = time.monotonic() + THREAD_END_SECONDS
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))


def _events(cluster: Cluster, state: JobState) -> list[dict[str, Any]]:
    """What Kubernetes has to say about a job whose pods do not start, oldest first."""
    name = str(state.job["metadata"]["name"])
    pending = [pod["metadata"]["name"] for pod in state.history.present if phase(pod) == "Pending"]
    # The TrainJob, its JobSet (of the same name), its Job, and one pod that stands for all.
    found = [event for thing in (name, f"{name}-{names.NODE}-0", *pending[:1]) for event in cluster.events(thing)]
    begun = str(state.job["metadata"]["creationTimestamp"])
    return sorted((event for event in found if event_time(event) >= begun), key=event_time)


def waits_for(cluster: Cluster, job: Mapping[str, Any], pods: Iterable[Pod]) -> str:
    """Why pods of a job do not start, as Kubernetes reports it; empty where they do, or nobody says why."""
    state = JobState(job, schedule_timeout=0.0, history=History.of(pods))
    if state.waiting_for_start():
        with suppress(ZoetropeError):  # who may read jobs and pods, but no events, hears less
            state.see_warnings(_events(cluster, state))
    failure = state.stuck(time.time())
    return failure.message if failure else ""


def refresh(cluster: Cluster, state: JobState) -> None:
    """Takes in the pods as they are now."""
    try:
        for pod in History.of(cluster.pods(pods_of(state.job["metadata"]["name"]))).pods:
            if belongs(pod, state.job):
                state.history.see(pod)
    except ZoetropeError:
        return  # what the watch saw has to do


def explained(cluster: Cluster, state: JobState, node_0: list[str]) -> Ending:
    """The ending of a failed job, with the log that says most about it.

    Args:
        cluster: where it ran.
        state: with all its pods.
        node_0: what is known of node 0's log.
    """
    failure = classify(state.job, state.history)
    try:
        lines = log_tail(cluster, failure.pod) if failure.pod else []
    except ZoetropeError:
        lines = []
    lines = lines or node_0
    return Ending(state, failure.refined(lines), lines)
