"""Stops TrainJobs that their run has left behind, and brings the ledgers of ended runs to their end.

A job of ours is left behind when its run is over: the Argo Workflow is gone, has succeeded, failed or broken down, or
was asked to terminate (`end_reason`). Whether its launcher lives says nothing: while the Workflow runs, the launcher's
next attempt adopts the job. Jobs without our labels, or without a run, are not looked at.

Jobs that have completed or failed hold nothing. They stay for as long as the Workflow is there, so that a retry of
the run finds what came of them; the owner reference takes them away with it.

A job that was deleted, by whomever or with its Workflow, is kept by its finalizer until it has been stopped here: were
its pods not stopped first, Trainer might run them once more (see `Cluster.remove_job`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import RUN, WORKFLOW, is_stop_pending, is_terminal, pods_of
from zoetrope.infra.kubernetes.workflows import RUN_OF_WORKFLOW, end_reason, outline
from zoetrope.infra.ledger.events import run_folder
from zoetrope.infra.ledger.open_runs import forget_open_run, list_open_runs, note_open_run
from zoetrope.infra.reaper.collector import OURS, Clock, Json, Nodes, collect_pods, collect_run, settle_run
from zoetrope.infra.store import Store

if TYPE_CHECKING:
    from zoetrope.infra.kubernetes.api import Cluster

Result = TypeVar("Result")
RECENT_SECONDS = 3600.0
"""An ended Workflow that nobody noted is looked at for so long; KFP deletes it after the same time."""
FOLLOW_PODS_SECONDS = 40.0
"""How long the pods of deleted jobs are followed, so that their end is seen: a little more than the time that
Kubernetes gives a pod by default. Of one that takes longer, the moment it was asked to end is known."""
WORKFLOWS_AT_ONCE = 20
POLL_SECONDS = 0.3
"""A deleted pod shows how it ended for less than a second before it is gone."""


@dataclass(frozen=True)
class Action:
    """One thing that the reaper did, would do (dry run) or could not do.

    Attributes:
        action: `deleted`, `collected`, `settled`, or `failed`.
        name: the TrainJob or the run.
        run: id of the run.
        why: the reason, as text.
    """

    action: str
    name: str
    run: str
    why: str


@dataclass
class ReapResult:
    """What one pass did.

    Attributes:
        actions: in order.
        failures: what could not be done; the rest was.
    """

    actions: list[Action] = field(default_factory=list)
    failures: list[Action] = field(default_factory=list)


def reap(
    cluster: Cluster,
    store: Store,
    *,
    dry_run: bool = False,
    clock: Clock = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> ReapResult:
    """One pass over a namespace.

    A job's pods are read before it is deleted and again until they have ended. Nothing is written to the store until
    all jobs are stopped: where it is away, what goes on running costs more than what the ledger then lacks.

    Args:
        cluster: the namespace.
        store: where the ledger lies.
        dry_run: only says which jobs would be deleted; nothing is written.
        clock: seconds since the epoch.
        sleep: waits between two looks at ending pods.

    Raises:
        ZoetropeError: the cluster cannot be asked for jobs. Faults of one job or run are in the result.
    """
    return _Pass(cluster, store, dry_run, clock, sleep).run()


class _Pass:
    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        dry_run: bool,
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        self.cluster, self.store, self.dry_run = cluster, store, dry_run
        self.clock, self.sleep = clock, sleep
        self.nodes = Nodes(cluster)
        self.done = ReapResult()

    def run(self) -> ReapResult:
        jobs = [job for job in self.cluster.list("trainjobs", OURS) if _run_of(job) and _workflow_of(job)]
        stopped = [
            (job, pods) for job in jobs if (pods := self._try(_name(job), _run_of(job), self._stop, job)) is not None
        ]
        # Nothing before this line touches the store, which may be away.
        for job, pods in stopped:
            self._try(_name(job), _run_of(job), self._note, job, pods)
        self._follow_pods([job for job, _ in stopped])
        if not self.dry_run:
            self._try("ledger", "", self._ledgers)
        return self.done

    def _stop(self, job: Json) -> list[Json] | None:
        """Deletes a job that was left behind and returns the pods that it had; None for one that is left alone."""
        # Read now, not at the begin of the pass: a retry may have revived the run.
        workflow = self.cluster.get("workflows", _workflow_of(job))
        held = is_stop_pending(job)
        why = "it was deleted" if held else end_reason(workflow)
        stays = _is_terminating(job) or (is_terminal(job) and workflow is not None)
        if not why or (stays and not held):
            return None
        pods = [] if self.dry_run else self._try(_name(job), _run_of(job), self.cluster.pods, pods_of(_name(job)))
        if not self.dry_run:
            self.cluster.remove_job(_name(job))
        self.done.actions.append(Action("deleted", _name(job), _run_of(job), why))
        return None if self.dry_run else pods or []

    def _note(self, job: Json, pods: list[Json]) -> None:
        # Once the job is gone nothing else may name its run any more.
        note_open_run(self.store, self.cluster.namespace, _run_of(job), _workflow_of(job))
        collect_pods(self.cluster, self.store, _run_of(job), pods, job, self.clock)

    def _follow_pods(self, jobs: list[Json]) -> None:
        """Looks at the pods of deleted jobs until they are gone: how they ended is not to be read afterwards."""
        until = self.clock() + FOLLOW_PODS_SECONDS
        while True:
            left = []
            for job in jobs:
                pods = self._try(_name(job), _run_of(job), self.cluster.pods, pods_of(_name(job)))
                if pods:
                    self._try(_name(job), _run_of(job), self._note, job, pods)
                    left.append(job)
            jobs = left
            if not jobs or self.clock() >= until:
                return
            self.sleep(POLL_SECONDS)

    def _ledgers(self) -> None:
        """Continues the ledgers of all runs that are not closed yet, and closes those that can be."""
        noted = list_open_runs(self.store, self.cluster.namespace)
        # Page by page and in outline: whole, a few dozen of them would fill the memory of the reaper's pod.
        pages = self.cluster.each("workflows", {RUN_OF_WORKFLOW: ""}, page=WORKFLOWS_AT_ONCE)
        workflows = {flow["metadata"]["name"]: outline(flow) for flow in pages}
        runs = dict(noted)
        for name, each in workflows.items():
            run = each["metadata"]["labels"].get(RUN_OF_WORKFLOW, "")
            if run and run not in runs and self._is_recent(each) and self._is_ours(run):
                runs[run] = name
        for run, name in sorted(runs.items()):
            mine = workflows.get(name) or self._by_run(workflows, run)
            self._try(run, run, self._close, run, name, mine, run in noted)

    def _close(self, run: str, workflow: str, flow: Json | None, noted: bool) -> None:
        over = bool(end_reason(flow))
        running = self._collect(run, workflow)
        jobs = self.cluster.list("trainjobs", {**OURS, RUN: run})
        if not running:  # what is terminating holds nothing any more
            jobs = [job for job in jobs if not _is_terminating(job)]
        settled = settle_run(self.store, run, jobs, ended=over, clock=self.clock)
        for name, usd in settled.items():
            self.done.actions.append(Action("settled", name, run, f"{usd:.6f} USD"))
        if not over and not noted:
            note_open_run(self.store, self.cluster.namespace, run, workflow)
        elif over and not running and all(is_terminal(job) for job in jobs):
            forget_open_run(self.store, self.cluster.namespace, run)

    def _collect(self, run: str, workflow: str) -> int:
        """Pods of the run that still hold something."""
        found = collect_run(self.cluster, self.store, run, nodes=self.nodes, clock=self.clock)
        if found.written or found.gone:
            why = f"{found.written} of {found.pods} pods written, {found.gone} found gone"
            self.done.actions.append(Action("collected", run, run, why))
        if found.running and workflow:
            note_open_run(self.store, self.cluster.namespace, run, workflow)
        return found.running

    def _is_recent(self, flow: Json) -> bool:
        finished = flow.get("status", {}).get("finishedAt")
        return not finished or self.clock() - datetime.fromisoformat(finished).timestamp() < RECENT_SECONDS

    def _is_ours(self, run: str) -> bool:
        """Other pipelines run in the same namespace; ours have a step in the ledger."""
        return next(iter(self.store.list(run_folder(run))), None) is not None

    @staticmethod
    def _by_run(workflows: dict[str, Json], run: str) -> Json | None:
        found = (flow for flow in workflows.values() if flow["metadata"]["labels"].get(RUN_OF_WORKFLOW) == run)
        return next(found, None)

    def _try(self, name: str, run: str, work: Callable[..., Result], *arguments: Any) -> Result | None:
        """One failing job or run does not stop the others."""
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001 - also an answer of the cluster that nobody foresaw
            what = error.headline if isinstance(error, ZoetropeError) else f"{type(error).__name__}: {error}"
            failure = Action("failed", name, run, what)
            if failure not in self.done.failures:
                self.done.failures.append(failure)
            return None


def _name(job: Json) -> str:
    return str(job["metadata"]["name"])


def _is_terminating(job: Json) -> bool:
    return "deletionTimestamp" in job["metadata"]


def _run_of(job: Json) -> str:
    return str(job["metadata"].get("labels", {}).get(RUN, ""))


def _workflow_of(job: Json) -> str:
    noted = job["metadata"].get("annotations", {}).get(WORKFLOW, "")
    owners = [each for each in job["metadata"].get("ownerReferences") or [] if each["kind"] == "Workflow"]
    return str(noted or (owners[0]["name"] if owners else ""))
