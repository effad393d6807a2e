"""A job as its watchers see it: pure, fed with what they saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoetrope.infra.kubernetes.jobs import ATTEMPT, condition, true_condition
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.failure import Failure, Kind
from zoetrope.infra.launch.trainjob.pods import (
    History,
    Pod,
    StartProblem,
    container,
    phase,
    seconds,
    start_problem,
    started,
)

NO_PODS_SECONDS = 20.0
REMIND_SECONDS = 300.0
_KINDS = {"unschedulable": Kind.UNSCHEDULABLE, "image": Kind.IMAGE, "start": Kind.START}


@dataclass
class JobState:
    """What is known of one TrainJob.

    Attributes:
        job: the TrainJob as it was last.
        schedule_timeout: seconds that its pods may fail to start.
        history: its pods.
        deleted: whether the job is gone.
    """

    job: Mapping[str, Any]
    schedule_timeout: float
    history: History = field(default_factory=History)
    deleted: bool = False
    _queued: float = 0.0
    _suspended_since: float | None = None
    _stuck: StartProblem | None = None
    _stuck_since: float | None = None
    _warnings: str = ""
    _said: str = ""
    _said_at: float = 0.0

    def __post_init__(self) -> None:
        resumed = condition(self.job, "Suspended")
        created = self.created
        if self.suspended:
            self._suspended_since = created
        elif resumed is not None and resumed["status"] == "False":
            self._queued = max(0.0, (seconds(resumed.get("lastTransitionTime")) or created) - created)

    @property
    def uid(self) -> str:
        """Of the job."""
        return str(self.job["metadata"]["uid"])

    @property
    def created(self) -> float:
        """When the job was made, seconds since 1970."""
        return seconds(self.job["metadata"]["creationTimestamp"]) or 0.0

    @property
    def suspended(self) -> bool:
        """Whether the job waits in a queue, or was put back into it."""
        return bool(self.job["spec"].get("suspend")) or true_condition(self.job, "Suspended") is not None

    @property
    def complete(self) -> bool:
        """Whether the job ended well."""
        return true_condition(self.job, "Complete") is not None

    @property
    def failed(self) -> bool:
        """Whether the job failed permanently."""
        return true_condition(self.job, "Failed") is not None

    @property
    def over(self) -> bool:
        """Whether the job ended by itself."""
        return self.complete or self.failed

    def see_job(self, event: Mapping[str, Any], now: float) -> None:
        """Takes in an event of the watch on the job."""
        job = event["object"]
        if job["metadata"]["uid"] != self.uid or event["type"] == "DELETED":
            self.deleted = True
            return
        self.job = job
        # One that is terminating is not followed to its end: its pods would look like lost ones.
        self.deleted = bool(job["metadata"].get("deletionTimestamp")) and not self.over
        if self.suspended and self._suspended_since is None:
            self._suspended_since = self._transition() or now
        elif not self.suspended and self._suspended_since is not None:
            self._queued += max(0.0, (self._transition() or now) - self._suspended_since)
            self._suspended_since = None

    def see_pod(self, event: Mapping[str, Any]) -> None:
        """Takes in an event of the watch on the job's pods."""
        self.history.see(event["object"], gone=event["type"] == "DELETED")

    def see_warnings(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Takes in Kubernetes events about the job and its pods, oldest first."""
        texts = [f"{event.get('reason')}: {event.get('message')}" for event in events if event.get("type") == "Warning"]
        self._warnings = texts[-1] if texts else ""

    def queued_seconds(self, now: float) -> float:
        """How long the job waited in a queue."""
        running_wait = now - self._suspended_since if self._suspended_since is not None else 0.0
        return self._queued + max(0.0, running_wait)

    def running_seconds(self, now: float) -> float:
        """How long the job ran, from the start of its first container."""
        ended = next((c for kind in ("Complete", "Failed") if (c := true_condition(self.job, kind))), None)
        end = (seconds(ended.get("lastTransitionTime")) if ended else None) or now
        begins = [time for pod in self.history.pods if (time := started(pod)) is not None]
        begin = min(begins, default=self.created + self._queued)
        return max(0.0, end - begin)

    def waiting_for_start(self) -> bool:
        """Whether pods should be running and are not."""
        if self.suspended or self.over or self.deleted:
            return False
        pods = self.history.present
        return not pods or any(phase(pod) == "Pending" for pod in pods)

    def stuck(self, now: float) -> Failure | None:
        """The failure of a job whose pods could not start for longer than it may wait; None while it may."""
        found = self._find_start_problem(now)
        if found is None:
            self._stuck = self._stuck_since = None
            return None
        since = found.since if found.since is not None else now
        self._stuck_since = min(self._stuck_since or since, since, now)
        self._stuck = found
        waited = now - self._stuck_since
        if not found.permanent and waited < self.schedule_timeout:
            return None
        return Failure(kind=_KINDS[found.kind], message=f"{found.message} (for {max(0.0, waited):.0f} s)")

    def news(self, now: float) -> str:
        """What a person should hear now; empty where nothing has changed."""
        text = self._text(now)
        again = self._stuck is not None or self.suspended
        if text == self._said and not (again and now - self._said_at >= REMIND_SECONDS):
            return ""
        since = self._stuck_since if self._stuck else self._suspended_since
        self._said, self._said_at = text, now
        return f"{text} (for {now - since:.0f} s)" if since is not None and now - since >= 1 else text

    def _text(self, now: float) -> str:
        if self.suspended:
            queue = (self.job["metadata"].get("labels") or {}).get(names.QUEUE)
            return f"waits in queue {queue}" if queue else "is suspended"
        if self._stuck:
            return f"does not start: {self._stuck.message}"
        wanted = ((self.job["spec"].get("trainer") or {}).get("numNodes")) or 1
        states = Counter("Running" if "running" in container(pod) else phase(pod) for pod in self.history.present)
        counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
        return f"{wanted} pods: {counts or 'not there yet'}"

    def _find_start_problem(self, now: float) -> StartProblem | None:
        if not self.waiting_for_start():
            return None
        problems = [found for pod in self.history.present if (found := start_problem(pod))]
        if problems:
            return min(problems, key=lambda found: (not found.permanent, found.since or now))
        resumed = condition(self.job, "Suspended")
        begin = max(self.created, (seconds(resumed.get("lastTransitionTime")) if resumed else 0.0) or 0.0)
        if self._warnings and now - begin >= NO_PODS_SECONDS:
            pods = [pod for pod in self.history.present if phase(pod) == "Pending"]
            begins = [seconds(pod["metadata"].get("creationTimestamp")) or begin for pod in pods]
            return StartProblem("start", self._warnings, min(begins, default=begin))
        return None

    def _transition(self) -> float | None:
        found = condition(self.job, "Suspended")
        return seconds(found.get("lastTransitionTime")) if found else None


def belongs(pod: Pod, job: Mapping[str, Any]) -> bool:
    """Whether the pod is of this job, and not of an earlier one of the same name."""
    made, begun = pod["metadata"].get("creationTimestamp") or "", job["metadata"]["creationTimestamp"]
    labels, wanted = pod["metadata"].get("labels") or {}, job["metadata"].get("labels") or {}
    attempt = wanted.get(ATTEMPT)
    return made >= begun and (attempt is None or labels.get(ATTEMPT) in (None, attempt))
