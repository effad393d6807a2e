"""One writer's append-only chain of events: what a step was given, used and came to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger.entry import LedgerEntry, entry_of
from zoetrope.infra.ledger.events import Event, EventKind, chain_key, write_chain
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import Store

Outcome = Literal["succeeded", "failed", "cancelled"]

# A heartbeat is stored when this share of the time held has passed since the last stored event. So the length
# of a chain grows with the logarithm of time, and what is billed for a killed process is at most this share
# (and one heartbeat) too low.
HEARTBEAT_SHARE = 0.005


class LedgerChain:
    """The hash-chained events of one attempt of one step, in `ledger/RUN/STEP.ATTEMPT.jsonl`.

    Every event rewrites the object atomically, so a reader always finds a whole chain. Calls may come from
    several threads of one process (the usage monitor beats beside the step).

    Raises:
        ZoetropeError: when the attempt has a chain already, or a name cannot be part of a key.
    """

    def __init__(
        self, store: Store, run_id: str, step: str, attempt: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._names = (run_id, step, attempt)
        self._key = chain_key(run_id, step, attempt)
        self._clock = clock
        self._events: list[Event] = []
        self._usage: dict[str, Any] = {}
        self._lock = threading.Lock()
        if store.exists(store.uri(self._key)):
            raise ZoetropeError(
                f"ledger: attempt {attempt} of {step} in run {run_id} is already recorded",
                "another process runs the same step of the same run; wait for it or start a new run",
            )

    def allocate(self, resources: Resources, price_sheet: str = "", pod: str = "") -> None:
        """Says what the step holds from now on.

        Args:
            resources: what is set aside for it.
            price_sheet: name of the sheet in force, if one was chosen.
            pod: name of the pod that the step runs in; the pod's own chain, once collected, takes this one's place.
        """
        with self._lock:
            if self._events:
                raise ZoetropeError("ledger: a chain holds one allocation", "start a new attempt for another one")
            body = {"resources": resources.model_dump(), "price_sheet": price_sheet}
            self._append("allocation", {**body, "pod": pod} if pod else body)

    def usage(self, cpu_seconds: float, peak_memory_bytes: int) -> None:
        """Heartbeat: the step still holds its allocation; totals of what it used until now."""
        with self._lock:
            self._usage = {"cpu_seconds": float(cpu_seconds), "peak_memory_bytes": int(peak_memory_bytes)}
            if not self._open():
                return
            now = self._clock()
            if now - self._events[-1].time >= HEARTBEAT_SHARE * (now - self._events[0].time):
                self._append("usage", dict(self._usage))

    def outcome(self, status: Outcome, reason: str = "") -> LedgerEntry:
        """Ends the allocation and returns the entry to bill."""
        with self._lock:
            if not self._open():
                raise ZoetropeError("ledger: no open allocation to end", "call allocate first, outcome once")
            self._append("outcome", {"status": status, "reason": reason, **self._usage})
            return entry_of(*self._names, self._events)

    def _open(self) -> bool:
        return bool(self._events) and self._events[-1].kind != "outcome"

    def _append(self, kind: EventKind, body: dict[str, Any]) -> None:
        # A clock that was set back must not make an allocation shorter than it was known to be.
        now = max(self._clock(), self._events[-1].time if self._events else 0.0)
        event = Event.next_after(self._events, kind, body, now)
        self._store.put_bytes(self._key, write_chain([*self._events, event]))
        self._events.append(event)
