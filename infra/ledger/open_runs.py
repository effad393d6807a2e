"""Runs that hold something or may do so: what the reaper has to look at when the cluster no longer names them.

One small object a run, `ledger-open/NAMESPACE/RUN.json`; there from the first pod or reservation until the run has
ended and all of its chains have.
"""

from __future__ import annotations

import json

from zoetrope.infra.ledger.events import checked_name
from zoetrope.infra.references import canonical_json
from zoetrope.infra.store import Store


def note_open_run(store: Store, namespace: str, run_id: str, workflow: str) -> None:
    """Remembers a run and the Argo Workflow it belongs to; nothing is written where it is remembered already."""
    key = _key(namespace, run_id)
    if not store.exists(store.uri(key)):
        store.put_bytes(key, canonical_json({"run": run_id, "workflow": workflow}))


def forget_open_run(store: Store, namespace: str, run_id: str) -> None:
    """The run has ended and all of its chains have."""
    store.delete(store.uri(_key(namespace, run_id)))


def list_open_runs(store: Store, namespace: str) -> dict[str, str]:
    """Run -> name of its Workflow."""
    found = [json.loads(store.read(uri)) for uri in store.list(f"ledger-open/{checked_name(namespace)}/")]
    return {each["run"]: each["workflow"] for each in found}


def _key(namespace: str, run_id: str) -> str:
    return f"ledger-open/{checked_name(namespace)}/{checked_name(run_id)}.json"
