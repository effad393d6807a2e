"""Runs one job for a step: never two at a time, none left behind, a running one is adopted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes import AlreadyExistsError, Cluster
from zoetrope.infra.kubernetes.jobs import JOB_OF_POD, MANAGED_BY, RUN, STEP, attempt_of, pods_of
from zoetrope.infra.kubernetes.workflows import end_reason
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.failure import Failure, Kind
from zoetrope.infra.launch.trainjob.follow import CancelledError, Ending, explained, follow
from zoetrope.infra.launch.trainjob.pods import History
from zoetrope.infra.launch.trainjob.resource import owner_reference
from zoetrope.infra.launch.trainjob.state import JobState, belongs
from zoetrope.infra.signals import EXIT_TERMINATED

log = logging.getLogger(__name__)
GONE_SECONDS = 180.0
GONE_POLL_SECONDS = 1.0
# Between Terminate and the signal that ends this process lie 6 to 8 seconds, in which the job has to be deleted.
FINAL_RECORD_SECONDS = 2.0

OnFinished = Callable[[dict[str, Any], list[dict[str, Any]]], None]
MakeBody = Callable[[int, dict[str, Any] | None], dict[str, Any]]


@dataclass(frozen=True)
class JobReport:
    """What became of a job that ended well.

    Attributes:
        name: of the TrainJob; empty where it ran on this machine.
        attempt: 1 for the first that was made.
        queued_seconds: that it waited in a queue.
        running_seconds: that its pods ran.
    """

    name: str = ""
    attempt: int = 1
    queued_seconds: float = 0.0
    running_seconds: float = 0.0


@dataclass
class JobRunner:
    """One job of one step.

    Attributes:
        cluster: where it runs.
        name: of the TrainJob.
        labels: of the job, by which its own are distinguished from others'.
        digest: identifies what the job computes.
        make_body: (attempt, owner reference) -> TrainJob.
        has_result: whether what a completed job computes is in the store.
        on_status: called with one line whenever something changes.
        on_log_line: called with each line of the job's log.
        first_attempt: the number of an attempt while the cluster knows no job of this name.
        reserve: is called with the number of an attempt before it is made, and may refuse it.
        workflow: name of the Argo Workflow that the step belongs to; empty for none.
        force_new: whether a job that has failed is replaced whatever the reason, since a person asked for a retry.
        schedule_timeout: seconds that the job's pods may fail to start.
        max_restarts: how often the job is recreated after failures that pass.
        on_finished: called with the job and all its pods when it has ended, before it is deleted.
        on_scheduled: called whenever more of its pods have been given a node, in a thread of its own.
    """

    cluster: Cluster
    name: str
    labels: Mapping[str, str]
    digest: str
    make_body: MakeBody
    has_result: Callable[[], bool]
    on_status: Callable[[str], None]
    on_log_line: Callable[[str], None]
    first_attempt: Callable[[], int] = lambda: 1
    reserve: Callable[[int], None] = lambda attempt: None
    workflow: str = ""
    force_new: bool = False
    schedule_timeout: float = 1800.0
    max_restarts: int = 3
    on_finished: OnFinished | None = None
    on_scheduled: Callable[[], object] | None = None
    _noting: threading.Thread | None = None

    def run(self) -> JobReport:
        """Creates the job, or adopts the one that is there, and follows it to its end.

        Raises:
            ZoetropeError: it failed permanently, cannot start, or its name is another's.
            SystemExit: (143) the run was terminated; the job is deleted.
        """
        state: JobState | None = None
        try:
            owner = self._owner()
            job = self._adopt(owner) or self._make(self.first_attempt(), 0, owner)
            while True:
                state = JobState(job, self.schedule_timeout)
                ending = self._ending(state)
                self._end(state)
                if ending.failure is None:
                    if self.has_result():
                        return self._report(state)
                    # It ran, but somebody removed what it made (or it never made it).
                    ending.failure = Failure(kind=Kind.UNKNOWN, message="it completed, but left no result in the store")
                job = self._again(state, ending, owner)
        except CancelledError:
            self._cancel(state)
            self.on_status("stopped, because the run was terminated")
            raise SystemExit(EXIT_TERMINATED) from None

    def _owner(self) -> dict[str, Any] | None:
        if not self.workflow:
            return None
        workflow = self.cluster.get("workflows", self.workflow)
        if workflow is None or end_reason(workflow):
            raise CancelledError
        return owner_reference(workflow)

    def _make(self, attempt: int, restarts: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        """A new job, or the one that somebody made at the same moment."""
        self.reserve(attempt)
        body = self.make_body(attempt, owner)
        body["metadata"]["annotations"][names.RESTARTS] = str(restarts)
        try:
            made = self.cluster.create("trainjobs", body)
        except AlreadyExistsError:
            return self._adopt(owner) or self._make(attempt, restarts, owner)
        self.on_status(f"created (attempt {attempt})")
        return made

    def _adopt(self, owner: dict[str, Any] | None) -> dict[str, Any] | None:
        """The job of this name if it does what the step wants; None where there is none.

        A launcher may be killed, evicted or retried while its job goes on, and the job's name is the same for every
        attempt of the step. So the launcher looks for a job of this name before it creates one, and goes on with what
        it finds: deleting it would throw away what it has computed. The digest decides whether it computes what this
        step wants. If it does, it is followed to its end, also when it has ended already. If not, a job that has ended
        is replaced, after its costs were recorded; a running one is never deleted here, since another launcher may
        still wait for it.
        """
        found = self.cluster.get("trainjobs", self.name)
        if found is None:
            return None
        self._check_whose(found)
        if found["metadata"].get("deletionTimestamp"):
            self.on_status("waits until the earlier job is gone")
            self._remove(found)
            return self._make(attempt_of(found) + 1, 0, owner)
        state = JobState(found, self.schedule_timeout)
        over = state.over
        why = ""
        if _annotation(found, names.DIGEST) != self.digest:
            why = "had another configuration or other inputs"
        elif state.failed and self.force_new:
            why = "has failed"
        if not why:
            self.on_status(f"adopts attempt {attempt_of(found)}" + (", which has ended" if over else ""))
            return found
        if not over:
            raise ZoetropeError(
                f"TrainJob {self.name}: still runs for this step with another configuration or other inputs",
                f"wait for its end, or `kubectl delete trainjob {self.name}`",
                retryable=True,
            )
        self.on_status(f"replaces an earlier job, which {why}")
        state.history = self._pods(found)
        self._end(state)
        self._remove(found)
        return self._make(attempt_of(found) + 1, 0, owner)

    def _check_whose(self, found: Mapping[str, Any]) -> None:
        labels = found["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY) != names.ZOETROPE or not labels.get(RUN):
            raise ZoetropeError(
                f"TrainJob {self.name}: there is a job of this name that zoetrope did not create",
                f"rename it, or `kubectl delete trainjob {self.name}`",
            )
        for label in (RUN, STEP):
            if labels.get(label) != self.labels[label]:
                what = label.rpartition("/")[2]
                raise ZoetropeError(
                    f"TrainJob {self.name}: belongs to {what} {labels.get(label)}, not to {self.labels[label]}",
                    f"wait for its end, or `kubectl delete trainjob {self.name}`",
                )

    def _ending(self, state: JobState) -> Ending:
        if not state.over:
            return follow(
                self.cluster,
                state,
                workflow=self.workflow,
                on_status=self.on_status,
                on_log_line=self.on_log_line,
                on_scheduled=self._note_pods,
            )
        state.history = self._pods(state.job)
        return Ending(state, None, []) if state.complete else explained(self.cluster, state, [])

    def _pods(self, job: Mapping[str, Any]) -> History:
        return History.of(pod for pod in self.cluster.pods(pods_of(self.name)) if belongs(pod, job))

    def _again(self, state: JobState, ending: Ending, owner: dict[str, Any] | None) -> dict[str, Any]:
        """The next attempt, or the error where there is none."""
        failure, attempt, restarts = ending.failure, attempt_of(state.job), _restarts(state.job)
        assert failure is not None
        error = failure.error(self.name, ending.log)
        last = failure.kind is Kind.DELETED or not failure.retryable or restarts >= self.max_restarts
        if last:
            if not state.over:
                self.cluster.remove_job(self.name)
            raise error
        self.on_status(f"{failure.kind}: {failure.message}; restart {restarts + 1} of {self.max_restarts} follows")
        self._remove(state.job)
        return self._make(attempt + 1, restarts + 1, owner)

    def _remove(self, job: Mapping[str, Any]) -> None:
        self.cluster.remove_job(self.name)
        self._wait_until_gone(job)

    def _wait_until_gone(self, job: Mapping[str, Any]) -> None:
        """Until a deleted job and its pods are gone; the pods may outlive it."""
        deadline = time.monotonic() + GONE_SECONDS
        if self._is_there(job):
            uid = job["metadata"]["uid"]
            for event in self.cluster.watch("trainjobs", self.name, GONE_SECONDS):
                if event["type"] == "DELETED" or event["object"]["metadata"]["uid"] != uid:
                    break
        while self._is_there(job) or any(belongs(pod, job) for pod in self.cluster.pods(pods_of(self.name))):
            if time.monotonic() > deadline:
                raise ZoetropeError(
                    f"TrainJob {self.name}: was deleted, but its pods do not end for {GONE_SECONDS:.0f} s",
                    f"see `kubectl get pods -l {JOB_OF_POD}={self.name}`; a lost node may hold them",
                    retryable=True,
                )
            time.sleep(GONE_POLL_SECONDS)

    def _is_there(self, job: Mapping[str, Any]) -> bool:
        found = self.cluster.get("trainjobs", self.name)
        return found is not None and found["metadata"]["uid"] == job["metadata"]["uid"]

    def _cancel(self, state: JobState | None) -> None:
        """Deletes the job at once; recording how it ended may take two seconds."""
        if state is None:
            found = self.cluster.get("trainjobs", self.name)
            if found is None:
                return
            self._check_whose(found)
            state = JobState(found, self.schedule_timeout)
            state.history = self._pods(found)
        recording = threading.Thread(target=self._end, args=[state], name="final record", daemon=True)
        recording.start()
        recording.join(FINAL_RECORD_SECONDS)
        self.cluster.remove_job(self.name)
        recording.join()

    def _end(self, state: JobState) -> None:
        if self.on_finished is not None:
            pods = [dict(pod) for pod in state.history.pods]
            self._record("end", partial(self.on_finished, dict(state.job), pods))

    def _note_pods(self) -> bool:
        """Beside the following, which must see in time that the run is terminated; False while it is at it."""
        if self.on_scheduled is None:
            return True
        if self._noting is not None and self._noting.is_alive():
            return False
        note = partial(self._record, "pods", self.on_scheduled)
        self._noting = threading.Thread(target=note, name="pods noted", daemon=True)
        self._noting.start()
        return True

    def _record(self, what: str, note: Callable[[], object]) -> None:
        try:
            note()
        except Exception:  # bookkeeping must not keep a job from being followed, stopped or recreated
            log.exception("TrainJob %s: its %s could not be recorded", self.name, what)

    def _report(self, state: JobState) -> JobReport:
        now = time.time()
        return JobReport(
            name=self.name,
            attempt=attempt_of(state.job),
            queued_seconds=round(state.queued_seconds(now), 3),
            running_seconds=round(state.running_seconds(now), 3),
        )


def _restarts(job: Mapping[str, Any]) -> int:
    text = _annotation(job, names.RESTARTS)
    return int(text) if text.isdigit() else 0


def _annotation(job: Mapping[str, Any], name: str) -> str:
    return str((job["metadata"].get("annotations") or {}).get(name, ""))
