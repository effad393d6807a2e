"""Merges the chains of all writers."""

from __future__ import annotations

from zoetrope.infra.ledger.entry import LedgerEntry
from zoetrope.infra.store import Store


def collect(store: Store, run_id: str | None = None) -> list[LedgerEntry]:
    """Every attempt of one run, or of all runs, by start; raises ZoetropeError for a broken chain."""
    raise NotImplementedError


def next_attempt(store: Store, run_id: str, step: str) -> int:
    """The number of the next attempt of a step: 1 when nothing is recorded."""
    raise NotImplementedError
