"""From the cluster's pods to the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from zoetrope.infra.kubernetes.jobs import (
    ATTEMPT,
    GPU_KIND,
    MANAGED_BY,
    RUN,
    STEP,
    WORKFLOW,
    attempt_of,
    is_terminal,
    pods_of,
)
from zoetrope.infra.ledger import PodLedger
from zoetrope.infra.ledger.budget import open_reservations, settle
from zoetrope.infra.ledger.events import Event
from zoetrope.infra.ledger.open_runs import note_open_run
from zoetrope.infra.reaper.pod_facts import RUN_OF_POD, WORKFLOW_OF_POD, pod_facts
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, open_store

if TYPE_CHECKING:
    from zoetrope.infra.kubernetes.api import Cluster

Clock = Callable[[], float]
Json = dict[str, Any]
READ_SECONDS = 10
OURS = {MANAGED_BY: "zoetrope"}


@dataclass(frozen=True)
class Collected:
    """What one look at a run brought.

    Attributes:
        run: its id.
        pods: pods that the cluster knows and that hold or held something.
        running: those that still do.
        written: chains that were written or continued.
        gone: chains that were ended because their pod is no longer there.
    """

    run: str
    pods: int
    running: int
    written: int
    gone: int


class Nodes:
    """Labels of nodes, each read once; without the right to read nodes there are none."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._labels: dict[str, dict[str, str]] = {}
        self._allowed = True

    def labels(self, name: str) -> dict[str, str]:
        """Labels of a node; empty when they cannot be read, which leaves machine and GPU kind unnamed."""
        if name and self._allowed and name not in self._labels:
            try:
                node = self._cluster.core.read_node(name, _request_timeout=READ_SECONDS)
                self._labels[name] = dict(node.metadata.labels or {})
            except ApiException as error:
                self._allowed = error.status not in (401, 403)
                self._labels[name] = {}
            except HTTPError:
                return {}
        return self._labels.get(name, {})


def collect_run(
    cluster: Cluster, store: Store, run_id: str, *, nodes: Nodes | None = None, clock: Clock = time.time
) -> Collected:
    """Writes down every pod of a run: its steps, KFP's drivers, and the pods of its TrainJobs.

    May be called at any time, by several at once and after a call that was cut short: what is written is never
    written otherwise. Each call continues the chains of pods that still run and ends those whose pod is gone.

    Raises:
        ZoetropeError: the cluster or the store cannot be reached.
    """
    ledger = PodLedger(store, run_id)  # before the pods are listed: see there
    before = ledger.open_chains()
    jobs = {job["metadata"]["name"]: job for job in cluster.list("trainjobs", {**OURS, RUN: run_id})}
    seen_at = clock()
    pods = [(pod, _remembered(before.get(pod["metadata"]["uid"]))) for pod in cluster.pods({RUN_OF_POD: run_id})]
    workflow = _workflow([pod for pod, _ in pods], jobs.values())
    for name in sorted({*jobs, *(str(events[0].body["job"]) for events in before.values())} - {""}):
        for pod in cluster.pods(pods_of(name)):
            pods.append((pod, _remembered(before.get(pod["metadata"]["uid"])) or jobs.get(name)))
    counts = _record(cluster, ledger, pods, nodes or Nodes(cluster), seen_at)
    gone = {uid: events for uid, events in before.items() if uid not in {pod["metadata"]["uid"] for pod, _ in pods}}
    for uid, events in gone.items():
        ledger.close(uid, events)
    if counts.running:
        note_open_run(store, cluster.namespace, run_id, workflow)
    ledger.tidy()
    return Collected(run_id, counts.pods, counts.running, counts.written, len(gone))


def collect_pods(
    cluster: Cluster,
    store: Store,
    run_id: str,
    pods: Sequence[Json],
    job: Json | None = None,
    clock: Clock = time.time,
) -> int:
    """Writes down pods that are at hand, e.g. those of a job that is about to be deleted.

    Args:
        cluster: asked for the labels of nodes.
        store: where the ledger lies.
        run_id: the pipeline run.
        pods: as the API gives them, just read.
        job: the TrainJob that they belong to.
        clock: seconds since the epoch.

    Returns:
        How many chains were written or continued.
    """
    ledger = PodLedger(store, run_id)
    return _record(cluster, ledger, [(pod, job) for pod in pods], Nodes(cluster), clock()).written


def finished_job_hook(
    cluster: Cluster, store: Store, run_id: str, *, clock: Clock = time.time
) -> Callable[[Json, Sequence[Json]], None]:
    """The launcher's hook `on_finished(job, pods)`: notes what a job held and settles its reservation.

    Call it when the job has ended, or before it is deleted. A fault is said and does not fail the step: the exit task
    and the reaper do the same again.
    """

    def on_finished(job: Json, pods: Sequence[Json]) -> None:
        collect_pods(cluster, store, run_id, pods, job, clock)
        if is_terminal(job):
            meta = job["metadata"]
            settle(store, run_id, meta["name"], attempt_of(job), clock=clock)

    return on_finished


def settle_run(
    store: Store, run_id: str, jobs: Iterable[Json], *, ended: bool, clock: Clock = time.time
) -> dict[str, Decimal]:
    """Settles the reservations of a run's jobs that no longer hold anything; collect first.

    A job may be gone while its pods still end: it is settled when the ledger knows their end.

    Args:
        store: where the ledger lies.
        run_id: the pipeline run.
        jobs: the TrainJobs of the run that the cluster knows.
        ended: whether the run has ended, so that a job which is not there will not come any more.
        clock: seconds since the epoch.

    Returns:
        Job and attempt (`NAME.ATTEMPT`) -> what it cost in USD.
    """
    known = {job["metadata"]["name"]: job for job in jobs}
    running = {_attempt_of(events) for events in PodLedger(store, run_id).open_chains().values()}
    settled = {}
    for each in open_reservations(store, run_id):
        if (each.job, each.attempt) in running:
            continue
        job = known.get(each.job)
        over = ended if job is None else attempt_of(job) > each.attempt or is_terminal(job)
        if over:
            usd = settle(store, run_id, each.job, each.attempt, clock=clock)
            settled[f"{each.job}.{each.attempt}"] = usd
    return settled


def collect_this_run(settings: Settings, cluster: Cluster | None = None) -> Collected:
    """For the exit task of a pipeline: writes down the pods of the run it belongs to and settles what has ended.

    The task's own pod is still running then; the reaper writes its end.
    """
    if cluster is None:
        from zoetrope.infra.kubernetes.api import Cluster as Client

        cluster = Client.connect(settings.namespace)
    store = open_store(settings.store)
    note_open_run(store, cluster.namespace, settings.run_id, settings.workflow)
    collected = collect_run(cluster, store, settings.run_id)
    jobs = cluster.list("trainjobs", {**OURS, RUN: settings.run_id})
    settle_run(store, settings.run_id, jobs, ended=True)
    return collected


@dataclass(frozen=True)
class _Counts:
    pods: int
    running: int
    written: int


def _record(
    cluster: Cluster, ledger: PodLedger, pods: Iterable[tuple[Json, Json | None]], nodes: Nodes, seen_at: float
) -> _Counts:
    found = [
        facts
        for pod, job in pods
        if (facts := pod_facts(pod, job, nodes.labels(pod["spec"].get("nodeName", "")))) is not None
    ]
    written = sum(ledger.record(facts, seen_at) for facts in found)
    return _Counts(len(found), sum(facts.ended is None for facts in found), written)


def _attempt_of(events: list[Event]) -> tuple[str, int]:
    body = events[0].body
    return str(body["job"]), int(body["attempt"])


def _workflow(pods: Iterable[Json], jobs: Iterable[Json]) -> str:
    names = [pod["metadata"].get("labels", {}).get(WORKFLOW_OF_POD, "") for pod in pods]
    names += [job["metadata"].get("annotations", {}).get(WORKFLOW, "") for job in jobs]
    return next((name for name in names if name), "")


def _remembered(events: list[Event] | None) -> Json | None:
    """The TrainJob of a pod as its chain names it: the job may be gone or recreated by now."""
    body = events[0].body if events else {}
    if not body.get("job"):
        return None
    labels = {STEP: body["step"], ATTEMPT: str(body["attempt"])}
    kind = body["resources"]["gpu_kind"]
    return {"metadata": {"name": body["job"], "labels": labels, "annotations": {GPU_KIND: kind} if kind else {}}}
