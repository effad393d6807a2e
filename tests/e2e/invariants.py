"""What must hold after any fault: no doubled job, no orphan, nothing missing from the ledger."""

from __future__ import annotations

import time
from collections import Counter

from tests.e2e.cluster import ENDED, Run, conditions, items
from zoetrope.infra.ledger.budget import open_reservations
from zoetrope.infra.ledger.pods import read_pods

ORPHAN_SECONDS = 150.0
LEDGER_SECONDS = 200.0


def broken_promises(run: Run) -> dict[str, list[str]]:
    """Counter -> what was found."""
    return {"doubled jobs": doubled(run), "orphans": orphans(run), "lost ledger events": lost(run)}


def doubled(run: Run) -> list[str]:
    """Attempts of a step of which more than one job was made, and jobs that lived beside each other."""
    made = Counter(
        (job["metadata"]["labels"]["zoetrope/step"], job["metadata"]["labels"]["zoetrope/attempt"])
        for job in run.jobs.values()
    )
    return [f"{step} attempt {attempt}: {count} jobs" for (step, attempt), count in made.items() if count > 1]


def orphans(run: Run) -> list[str]:
    """Jobs that still hold something although their run is over or gone, after the reaper had its time."""
    workflow = run.workflow()
    if workflow is not None and (workflow.get("status") or {}).get("phase") not in ENDED:
        return [f"the run {run.run_id} has not ended"]
    end = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < end:
        left = [job for job in items("trainjobs", f"zoetrope/run={run.run_id}") if not conditions(job) & OVER]
        if not left:
            return []
        time.sleep(3)
    return [job["metadata"]["name"] for job in left]


OVER = {"Complete", "Failed"}


def lost(run: Run) -> list[str]:
    """Pods that were seen and have no end in the ledger, and reservations that were not settled."""
    end = time.monotonic() + LEDGER_SECONDS
    while True:
        chains = {uid: events for (_, uid), events in read_pods(run.shelf.store, run.run_id).items()}
        missing = [name for uid, name in run.pods.items() if uid not in chains]
        unended = [run.pods[uid] for uid in run.pods if uid in chains and chains[uid][-1].kind != "outcome"]
        unsettled = [f"reservation of {each.job}" for each in open_reservations(run.shelf.store, run.run_id)]
        found = [*(f"no chain of {name}" for name in missing), *(f"no end of {name}" for name in unended), *unsettled]
        if not found or time.monotonic() > end:
            return found
        time.sleep(5)  # the reaper passes every minute
