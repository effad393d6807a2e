"""Merges the chains of all writers."""

from __future__ import annotations

import re

from zoetrope.infra.ledger.entry import LedgerEntry, entry_of
from zoetrope.infra.ledger.events import chain_key, read_chain
from zoetrope.infra.store import Store

_KEY = re.compile(r"ledger/(?P<run>[^/]+)/(?P<step>[^/]+)\.(?P<attempt>[0-9]+)\.jsonl")


def collect(store: Store, run_id: str | None = None) -> list[LedgerEntry]:
    """Every attempt of one run, or of all runs with None, by start.

    An allocation without an outcome (a running or a killed process) counts until its last heartbeat.

    Raises:
        ZoetropeError: a chain is broken; names the file and the line.
    """
    entries = []
    for uri in store.list("ledger/" if run_id is None else _folder(run_id)):
        match = _KEY.fullmatch(uri.removeprefix(store.root + "/"))
        if match:
            events = read_chain(store.read(uri), uri)
            entries.append(entry_of(match["run"], match["step"], int(match["attempt"]), events))
    return sorted(entries, key=lambda entry: (entry.started, entry.run_id, entry.step, entry.attempt))


def next_attempt(store: Store, run_id: str, step: str) -> int:
    """The number of the next attempt of a step: 1 when nothing is recorded."""
    uris = store.list(_folder(run_id))
    keys = [_KEY.fullmatch(uri.removeprefix(store.root + "/")) for uri in uris]
    return 1 + max((int(key["attempt"]) for key in keys if key and key["step"] == step), default=0)


def _folder(run_id: str) -> str:
    return chain_key(run_id, "step", 0).rpartition("/")[0] + "/"
