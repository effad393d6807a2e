"""One writer's append-only chain of events: what a step was given, used and came to."""

from __future__ import annotations

from typing import Literal

from zoetrope.infra.ledger.entry import LedgerEntry
from zoetrope.infra.ledger.resources import Resources
from zoetrope.infra.store import Store

Outcome = Literal["succeeded", "failed", "cancelled"]


class LedgerChain:
    """The hash-chained events of one attempt of one step, in `ledger/RUN/STEP.ATTEMPT.jsonl`."""

    def __init__(self, store: Store, run_id: str, step: str, attempt: int) -> None:
        raise NotImplementedError

    def allocate(self, resources: Resources, price_sheet: str = "") -> None:
        """Says what the step holds from now on."""
        raise NotImplementedError

    def usage(self, cpu_seconds: float, peak_memory_bytes: int) -> None:
        """Heartbeat: the step still holds its allocation, and what it used until now."""
        raise NotImplementedError

    def outcome(self, status: Outcome, reason: str = "") -> LedgerEntry:
        """Ends the allocation and returns the entry to bill."""
        raise NotImplementedError
