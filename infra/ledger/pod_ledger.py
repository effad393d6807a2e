"""The chain of a pod, written by whoever looks at the cluster: launcher, exit task, reaper, a person.

Several of them may look at the same time and none may undo what another wrote, on stores that know no lock. So no
key ever gets two contents that differ in their facts, and a chain is a function of the pod's own facts:

- `ledger/RUN/pods/UID.jsonl`: a pod that ended. Allocation when it got its node, beats, outcome when it ended.
- `ledger/RUN/pods/UID.N.jsonl`: a pod seen alive, N events. Beats are at fixed times after the allocation, so
  two observers write the same line for the same time, and the longer chain continues the shorter one.
- `ledger/RUN/pods/UID.N.gone.jsonl`: the pod is no longer there and nobody saw its end: the chain of N events, ended
  at its last beat.

Of several keys of one pod the first kind counts, else the one with the highest N; what it replaces is deleted
the next time that somebody looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from zoetrope.infra.ledger.chain import Outcome
from zoetrope.infra.ledger.events import (
    Event,
    checked_name,
    read_chain,
    read_folder,
    read_if_there,
    run_folder,
    write_chain,
)
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import Store

BEAT_SECONDS = 60.0
BEAT_SHARE = 0.01
"""A beat follows the one before after this share of the time held, at least BEAT_SECONDS."""
SETTLING_SECONDS = 10.0
"""A pod seen alive is known to have been alive so long before: the cluster tells of its end with a delay, and the
observer's clock is not the node's."""
GONE = "the pod was deleted before its end was seen; counted until it was last seen"

_KEY = re.compile(r"ledger/(?P<run>[^/]+)/pods/(?P<uid>[^/.]+)(\.(?P<count>[0-9]+)(?P<gone>\.gone)?)?\.jsonl")


@dataclass(frozen=True)
class PodFacts:
    """What a pod says of itself.

    Attributes:
        uid: the cluster's identifier of this pod; names are used again, this is not.
        pod: its name.
        namespace: where it is.
        step: step of the run that it works for.
        attempt: number of the attempt, from 1.
        role: `step`, `driver` or `job`, see `LedgerEntry`.
        job: TrainJob that it belongs to.
        resources: what it asks for.
        gpu_resource: name of the GPU resource that it asks for.
        node: name of the machine.
        node_type: type of the machine.
        created: seconds since the epoch.
        scheduled: when it got its node; from then on it is billed.
        asked_to_end: when somebody deleted it; None where nobody has.
        ended: when its last container ended; None while it runs.
        outcome: how it ended.
        reason: why it failed.
    """

    uid: str
    pod: str
    namespace: str
    step: str
    attempt: int
    role: str
    job: str
    resources: Resources
    gpu_resource: str
    node: str
    node_type: str
    created: float
    scheduled: float
    asked_to_end: float | None = None
    ended: float | None = None
    outcome: Outcome = "succeeded"
    reason: str = ""


class PodLedger:
    """What is written of the pods of one run, as it was when this was made, and how to go on from there.

    Make it before the cluster is asked for its pods: a pod that is in it and not in the later answer is gone
    permanently.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = _folder(run_id)
        self._keys: dict[str, list[str]] = {}
        for key in sorted(_pod_keys(store, self._folder), key=_rank):
            self._keys.setdefault(_names(key)["uid"], []).append(key)

    def record(self, facts: PodFacts, seen_at: float) -> bool:
        """Writes what is known of a pod, unless that much is written already; returns whether it was.

        Args:
            facts: what the pod says of itself.
            seen_at: when it said so, by the observer's clock; matters for running pods alone.
        """
        known = self._keys.setdefault(checked_name(facts.uid), [])
        if known and _is_final(known[-1]):
            return False
        events = events_of(facts, seen_at)
        count = "" if facts.ended is not None else f".{len(events)}"
        key = f"{self._folder}{facts.uid}{count}.jsonl"
        if known and _rank(known[-1]) >= _rank(key):
            return False
        self._store.put_bytes(key, write_chain(events))
        known.append(key)
        return True

    def open_chains(self) -> dict[str, list[Event]]:
        """UID -> events of each pod whose end is not written, as far as it is still so."""
        latest = {uid: keys[-1] for uid, keys in self._keys.items() if not _is_ended(keys[-1])}
        found = {uid: (key, read_if_there(self._store, key)) for uid, key in latest.items()}
        return {uid: read_chain(data, self._store.uri(key)) for uid, (key, data) in found.items() if data is not None}

    def close(self, uid: str, events: list[Event]) -> None:
        """Ends the chain of a pod that the cluster no longer knows, at its last beat."""
        end = Event.next_after(events, "outcome", {"status": "cancelled", "reason": GONE}, events[-1].time)
        key = f"{self._folder}{uid}.{len(events)}.gone.jsonl"
        self._store.put_bytes(key, write_chain([*events, end]))
        self._keys[uid].append(key)

    def tidy(self) -> None:
        """Deletes keys that a longer chain has replaced.

        For the next observer to do, not for the one who wrote the longer chain: so a reader who is in the middle of
        listing the folder finds at least one of the two.
        """
        for keys in self._keys.values():
            for key in keys[:-1]:
                self._store.delete(self._store.uri(key))
            del keys[:-1]


def read_pods(store: Store, run_id: str | None = None) -> dict[tuple[str, str], list[Event]]:
    """(run, pod's UID) -> events of the chain that counts, of one run or of all with None.

    Raises:
        ZoetropeError: a chain is broken; names the file and the line.
    """
    found = read_folder(store, "ledger/" if run_id is None else _folder(run_id), _KEY)
    latest: dict[tuple[str, str], str] = {}
    for key in sorted(found, key=_rank):
        latest[_names(key)["run"], _names(key)["uid"]] = key
    return {pod: read_chain(found[key], store.uri(key)) for pod, key in latest.items()}


def events_of(facts: PodFacts, seen_at: float) -> list[Event]:
    """The chain of a pod: nothing but its facts decides what is in it, and a later one continues an earlier one."""
    body: dict[str, Any] = {
        "resources": facts.resources.model_dump(),
        "gpu_resource": facts.gpu_resource,
        "pod": facts.pod,
        "pod_uid": facts.uid,
        "namespace": facts.namespace,
        "node": facts.node,
        "node_type": facts.node_type,
        "step": facts.step,
        "attempt": facts.attempt,
        "role": facts.role,
        "job": facts.job,
        "queued_seconds": round(max(0.0, facts.scheduled - facts.created), 3),
    }
    events = [Event.next_after([], "allocation", body, facts.scheduled)]
    for beat in _beats(facts, seen_at):
        events.append(Event.next_after(events, "usage", {}, beat))
    if facts.ended is not None:
        end = max(facts.ended, facts.scheduled)
        events.append(Event.next_after(events, "outcome", {"status": facts.outcome, "reason": facts.reason}, end))
    return events


def _beats(facts: PodFacts, seen_at: float) -> list[float]:
    """When the pod is known to have been there: fixed times after its allocation, and when it was asked to end.

    A pod may vanish unseen soon after it was asked, so that moment itself is noted, at once.
    """
    asked = facts.asked_to_end
    until = facts.ended
    if until is None:
        until = max(seen_at - SETTLING_SECONDS, asked or 0.0)
    times, beat = [], facts.scheduled + BEAT_SECONDS
    while beat <= until:
        times.append(beat)
        beat += max(BEAT_SECONDS, BEAT_SHARE * (beat - facts.scheduled))
    if asked is not None and facts.scheduled < asked <= until:
        times.append(asked)
    return sorted(set(times))


def _folder(run_id: str) -> str:
    return f"{run_folder(run_id)}pods/"


def _pod_keys(store: Store, folder: str) -> list[str]:
    keys = [uri.removeprefix(store.root + "/") for uri in store.list(folder)]
    return [key for key in keys if _KEY.fullmatch(key)]


def _names(key: str) -> re.Match[str]:
    names = _KEY.fullmatch(key)
    assert names is not None
    return names


def _rank(key: str) -> tuple[bool, int, bool]:
    names = _names(key)
    return (names["count"] is None, int(names["count"] or 0), names["gone"] is not None)


def _is_final(key: str) -> bool:
    return _names(key)["count"] is None


def _is_ended(key: str) -> bool:
    return _is_final(key) or _names(key)["gone"] is not None
