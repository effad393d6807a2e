"""Merges the chains of all writers."""

from __future__ import annotations

import re
from dataclasses import replace

from zoetrope.infra.ledger.entry import LedgerEntry, entry_of
from zoetrope.infra.ledger.events import read_chain, read_folder, run_folder
from zoetrope.infra.ledger.pod_ledger import read_pods
from zoetrope.infra.store import Store

_KEY = re.compile(r"ledger/(?P<run>[^/]+)/(?P<step>[^/]+)\.(?P<attempt>[0-9]+)\.jsonl")


def collect(store: Store, run_id: str | None = None) -> list[LedgerEntry]:
    """Every attempt of one run, or of all runs with None, by start; on a cluster every pod.

    An allocation without an outcome (a running or a killed process) counts until its last heartbeat. What a step
    wrote itself is left out where its pod's own chain is there: the pod was held before the step began and after it
    ended. The step's own name, attempt, reason and measured usage are kept.

    Raises:
        ZoetropeError: a chain is broken; names the file and the line.
    """
    found = read_folder(store, "ledger/" if run_id is None else run_folder(run_id), _KEY)
    steps = []
    for key, data in found.items():
        names = _KEY.fullmatch(key)
        assert names is not None
        events = read_chain(data, store.uri(key))
        steps.append(entry_of(names["run"], names["step"], int(names["attempt"]), events))
    by_pod = {(entry.run_id, entry.pod): entry for entry in steps if entry.pod}
    pods = []
    for (run, _), events in read_pods(store, run_id).items():
        body = events[0].body
        entry = entry_of(run, body["step"], body["attempt"], events)
        pods.append(_with_step(entry, by_pod.get((run, entry.pod))))
    collected = {(entry.run_id, entry.pod) for entry in pods}
    entries = [entry for entry in steps if (entry.run_id, entry.pod) not in collected] + pods
    return sorted(entries, key=lambda entry: (entry.started, entry.run_id, entry.step, entry.attempt, entry.pod))


def next_attempt(store: Store, run_id: str, step: str) -> int:
    """The number of the next attempt of a step: 1 when nothing is recorded."""
    uris = store.list(run_folder(run_id))
    keys = [_KEY.fullmatch(uri.removeprefix(store.root + "/")) for uri in uris]
    return 1 + max((int(key["attempt"]) for key in keys if key and key["step"] == step), default=0)


def _with_step(pod: LedgerEntry, step: LedgerEntry | None) -> LedgerEntry:
    if step is None:
        return pod
    return replace(
        pod,
        step=step.step,
        attempt=step.attempt,
        cpu_seconds=step.cpu_seconds,
        peak_memory_bytes=step.peak_memory_bytes,
        price_sheet=step.price_sheet,
        reason=step.reason or pod.reason,
    )
