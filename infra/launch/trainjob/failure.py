"""Why a job failed, and whether the same job may succeed when it is recreated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.infra.kubernetes.jobs import true_condition
from zoetrope.infra.launch import log_excerpt
from zoetrope.infra.launch.trainjob.pods import History, Record, phase, terminated

SIGKILLED, TERMINATED = 137, 143
_NODE_REASONS = frozenset(
    {"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity", "UnexpectedAdmissionError"}
)
_WAIT = "the step is repeated by itself; run it again if it was not"


class Kind(StrEnum):
    """Classes of failures."""

    USER_ERROR = "user error"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_DISK = "out of disk"
    LOST_NODE = "lost node"
    PREEMPTED = "preempted"
    PASSING = "passing fault"
    DEADLINE = "deadline"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    START = "does not start"
    REFUSED = "refused"
    DELETED = "deleted"
    UNKNOWN = "unknown"


RETRYABLE = frozenset({Kind.LOST_NODE, Kind.PREEMPTED, Kind.PASSING, Kind.DELETED, Kind.UNKNOWN})

_HINTS = {
    Kind.OUT_OF_MEMORY: "give the step more memory in the recipe's `resources:`, or a smaller batch",
    Kind.OUT_OF_DISK: "give the step more ephemeral storage, or write less to /tmp",
    Kind.LOST_NODE: _WAIT,
    Kind.PREEMPTED: _WAIT,
    Kind.PASSING: _WAIT,
    Kind.DELETED: "run the step again unless it was deleted on purpose",
    Kind.DEADLINE: "raise the step's deadline in the recipe; training goes on from its last checkpoint",
    Kind.IMAGE: "check the image's name and digest in images.lock, and that the nodes may pull it",
    Kind.UNSCHEDULABLE: "no node has what the step asks for: change its `resources:`, or add such a node",
    Kind.START: "see the message; the pod's service account, secrets and volumes have to be there",
    Kind.REFUSED: "check the step's runtime (`kubectl get trainingruntimes`)",
    Kind.UNKNOWN: _WAIT,
}


class Failure(StrictModel):
    """Why a job failed.

    Attributes:
        kind: its class.
        message: one line.
        pod: name of the pod whose log says more; empty for none.
        exit_code: what that pod ended with; None where it did not end by itself.
    """

    kind: Kind
    message: str
    pod: str = ""
    exit_code: int | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same job may succeed when it is recreated."""
        return self.kind in RETRYABLE

    def refined(self, log: Sequence[str]) -> Failure:
        """The failure, seen with the end of the pod's log: torchrun ends with 1 whatever its workers end with."""
        code = log_excerpt.worker_exit_code(log) if self.kind is Kind.USER_ERROR and self.exit_code == 1 else None
        if code is None:
            return self
        if code == -9:
            return self._as(
                Kind.OUT_OF_MEMORY, "a process was killed (SIGKILL), most likely because it ran out of memory", code
            )
        if code == -15:
            return self._as(Kind.LOST_NODE, "its processes were ended by SIGTERM", code)
        if code == EXIT_RETRYABLE:
            return self._as(Kind.PASSING, f"exit status {code}", code)
        return self.model_copy(update={"exit_code": code, "message": f"{self.pod} failed with exit status {code}"})

    def error(self, job: str, log: Sequence[str]) -> ZoetropeError:
        """The error for a person.

        Args:
            job: name of the TrainJob.
            log: the end of the pod's log.
        """
        headline = f"TrainJob {job}: {self.kind}: {self.message}"
        shown = log_excerpt.relevant_lines(log)
        if self.kind is Kind.USER_ERROR:
            return ZoetropeError(headline + log_excerpt.cause(shown), log_excerpt.quoted(shown))
        hint = _HINTS[self.kind]
        if self.pod and shown:
            hint += "\n  -> " + log_excerpt.quoted(shown)
        return ZoetropeError(headline, hint, retryable=self.retryable)

    def _as(self, kind: Kind, message: str, code: int) -> Failure:
        return Failure(kind=kind, message=f"{self.pod}: {message}", pod=self.pod, exit_code=code)


def classify(job: Mapping[str, Any], history: History) -> Failure:
    """Why a failed job failed, from its conditions and pods.

    When one pod goes, its peers fail too, and Kubernetes ends the rest: so what happened from outside counts before
    what programs ended with, and a pod that was deleted after another had failed says nothing.
    """
    ended = true_condition(job, "Failed") or {}
    reason, message = str(ended.get("reason", "")), str(ended.get("message", ""))
    if reason == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return Failure(kind=Kind.DEADLINE, message=f"stopped after its deadline of {limit} s")
    if reason == "TrainingRuntimeNotSupported":
        return Failure(kind=Kind.REFUSED, message=message)
    records = history.latest
    for look in (_out_of_memory, _disrupted, _deleted_from_outside):
        found = next((failure for record in records if (failure := look(record, records))), None)
        if found:
            return found
    return _by_exit_code(records) or Failure(kind=Kind.UNKNOWN, message=f"{message or reason}, and its pods are gone")


def _name(record: Record) -> str:
    return str(record.pod["metadata"]["name"])


def _out_of_memory(record: Record, records: Sequence[Record]) -> Failure | None:
    end = terminated(record.pod) or {}
    if end.get("reason") == "OOMKilled" and end.get("exitCode"):
        message = f"{_name(record)} needed more memory than its limit"
        return Failure(kind=Kind.OUT_OF_MEMORY, message=message, pod=_name(record), exit_code=end["exitCode"])
    return None


def _disrupted(record: Record, records: Sequence[Record]) -> Failure | None:
    if phase(record.pod) == "Succeeded":
        return None
    status = record.pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    if reason == "Evicted" and "exceed" in message:
        return Failure(kind=Kind.OUT_OF_DISK, message=f"{_name(record)}: {message}", pod=_name(record))
    target = true_condition(record.pod, "DisruptionTarget")
    why = f"{_name(record)}: {(target or {}).get('message') or message or reason}"
    if (target and target.get("reason") == "PreemptionByScheduler") or reason in {"Preempting", "Preempted"}:
        return Failure(kind=Kind.PREEMPTED, message=why, pod=_name(record))
    if target or reason in _NODE_REASONS or reason.startswith("OutOf") or phase(record.pod) == "Unknown":
        return Failure(kind=Kind.LOST_NODE, message=why, pod=_name(record))
    return None


def _deleted_from_outside(record: Record, records: Sequence[Record]) -> Failure | None:
    if not record.deleted or phase(record.pod) == "Succeeded" or (record.failed and record.failed < record.deleted):
        return None
    others = [other.failed for other in records if other is not record and other.failed]
    # Kubernetes deletes the rest of a job only after a pod has failed.
    if any(failed < record.deleted for failed in others):
        return None
    return Failure(kind=Kind.LOST_NODE, message=f"{_name(record)} was deleted", pod=_name(record))


def _by_exit_code(records: Sequence[Record]) -> Failure | None:
    own = [record for record in records if record.failed and not (record.deleted and record.deleted <= record.failed)]
    # The first to fail, in whole seconds; within one second, the one that says most.
    first = min(own, key=lambda record: (_finished(record), not _is_specific(record), record.failed), default=None)
    if first is None:
        return None
    name, code = _name(first), _code(first)
    if code == SIGKILLED:
        message = f"{name} was killed (exit status {code}), most likely because it ran out of memory"
        return Failure(kind=Kind.OUT_OF_MEMORY, message=message, pod=name, exit_code=code)
    if code == TERMINATED:
        return Failure(kind=Kind.LOST_NODE, message=f"{name} was ended by SIGTERM", pod=name, exit_code=code)
    kind = Kind.PASSING if code == EXIT_RETRYABLE else Kind.USER_ERROR
    return Failure(kind=kind, message=f"{name} failed with exit status {code}", pod=name, exit_code=code)


def _finished(record: Record) -> str:
    return str((terminated(record.pod) or {}).get("finishedAt") or "")


def _code(record: Record) -> int:
    return int((terminated(record.pod) or {}).get("exitCode", -1))


def _is_specific(record: Record) -> bool:
    return _code(record) not in (1, -1)
