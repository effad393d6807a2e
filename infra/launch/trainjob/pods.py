"""What pods of a job say about themselves, and all pods that a job ever had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from zoetrope.infra.kubernetes.jobs import condition
from zoetrope.infra.launch.trainjob import names

Pod = Mapping[str, Any]

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_NO_START = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def seconds(time: str | None) -> float | None:
    """An RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp() if time else None


def index(pod: Pod) -> int:
    """Number of the node that the pod is; -1 where it does not say."""
    metadata = pod["metadata"]
    text = (metadata.get("labels") or {}).get(names.POD_INDEX) or (metadata.get("annotations") or {}).get(
        names.POD_INDEX
    )
    return int(text) if text is not None else -1


def restart(pod: Pod) -> int:
    """How often the job was restarted before this pod was made."""
    return int((pod["metadata"].get("labels") or {}).get(names.RESTART) or 0)


def phase(pod: Pod) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def has_node(pod: Pod) -> bool:
    """Whether the pod has been given its node, which is paid for from then on."""
    return bool((pod.get("spec") or {}).get("nodeName"))


def container(pod: Pod) -> Mapping[str, Any]:
    """State of the container that does the work: {waiting | running | terminated: ...}."""
    statuses: list[dict[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    found = next((status for status in statuses if status["name"] == names.NODE), statuses[0] if statuses else {})
    return found.get("state") or {}


def terminated(pod: Pod) -> Mapping[str, Any] | None:
    """How the container ended ({exitCode, reason, finishedAt}); None while it has not."""
    return container(pod).get("terminated")


def started(pod: Pod) -> float | None:
    """When the container began to run."""
    state = container(pod)
    return seconds((state.get("running") or state.get("terminated") or {}).get("startedAt"))


def failed(pod: Pod) -> bool:
    """Whether the pod ended, and not well."""
    end = terminated(pod)
    return phase(pod) == "Failed" or (end is not None and end.get("exitCode", 0) != 0)


@dataclass(frozen=True)
class StartProblem:
    """Why a pod does not start.

    Attributes:
        kind: `unschedulable`, `image` or `start`.
        message: as Kubernetes reports it.
        since: when it began, as far as the pod says so.
        permanent: whether waiting cannot help.
    """

    kind: str
    message: str
    since: float | None = None
    permanent: bool = False


def start_problem(pod: Pod) -> StartProblem | None:
    """Why the pod does not start; None where nothing is wrong (yet)."""
    if phase(pod) != "Pending":
        return None
    scheduled = condition(pod, "PodScheduled")
    since = seconds(scheduled.get("lastTransitionTime")) if scheduled else None
    if scheduled and scheduled["status"] == "False" and scheduled.get("reason") == "Unschedulable":
        return StartProblem("unschedulable", str(scheduled.get("message") or "Unschedulable"), since)
    status = pod.get("status") or {}
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        message = f"{reason}: {waiting.get('message') or entry.get('image', '')}"
        if reason in _IMAGE:
            return StartProblem("image", message, since, permanent=reason == "InvalidImageName")
        if reason in _NO_START:
            return StartProblem("start", message, since)
    return None


@dataclass
class Record:
    """The last that was seen of a pod.

    Attributes:
        pod: as it was last.
        deleted: number of the sighting at which its deletion had begun; 0 for never.
        failed: number of the sighting at which it had failed; 0 for never.
        gone: whether it is there no more.
    """

    pod: Pod
    deleted: int = 0
    failed: int = 0
    gone: bool = False


@dataclass
class History:
    """All pods of a job, also those that are gone, in the order in which things were seen to happen."""

    records: dict[str, Record] = field(default_factory=dict)
    _sightings: int = 0

    @classmethod
    def of(cls, pods: Iterable[Pod]) -> History:
        """The history that one listing tells."""
        history = cls()
        for pod in sorted(pods, key=lambda pod: (terminated(pod) or {}).get("finishedAt") or ""):
            history.see(pod)
        return history

    def see(self, pod: Pod, *, gone: bool = False) -> Record:
        """Takes in a pod as it is now; `gone` where this is the last that will be seen of it."""
        self._sightings += 1
        record = self.records.setdefault(pod["metadata"]["uid"], Record(pod))
        record.pod = pod
        record.gone = record.gone or gone
        if not record.failed and failed(pod):
            record.failed = self._sightings
        if not record.deleted and (gone or pod["metadata"].get("deletionTimestamp")):
            record.deleted = self._sightings
        return record

    @property
    def pods(self) -> list[Pod]:
        """Every pod as it was last."""
        return [record.pod for record in self.records.values()]

    @property
    def present(self) -> list[Pod]:
        """The pods that are there."""
        return [record.pod for record in self.records.values() if not record.gone]

    @property
    def latest(self) -> list[Record]:
        """The last pod of each node, of the job's last start: one that was replaced did not end the job."""
        newest = max((restart(record.pod) for record in self.records.values()), default=0)
        nodes: dict[int, Record] = {}
        for record in self.records.values():
            before = nodes.get(index(record.pod))
            if restart(record.pod) == newest and (before is None or _made(record) >= _made(before)):
                nodes[index(record.pod)] = record
        return list(nodes.values())


def _made(record: Record) -> str:
    return str(record.pod["metadata"].get("creationTimestamp") or "")
