"""What must hold after any fault: no doubled job, no orphan, nothing missing from the ledger."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.e2e.cluster import ENDED, Run
from zoetrope.infra.ledger.budget import open_reservations
from zoetrope.infra.ledger.collect import collect
from zoetrope.infra.ledger.pod_ledger import read_pods

ORPHAN_SECONDS = 150.0
LEDGER_SECONDS = 200.0
JOBSET, GENERATION = "jobset.sigs.k8s.io/jobset-name", "jobset.sigs.k8s.io/jobset-uid"
Json = Mapping[str, Any]


def broken_promises(run: Run) -> dict[str, list[str]]:
    """Counter -> what was found."""
    found = {"orphans": orphans(run), "lost ledger events": lost(run)}
    return {"doubled jobs": doubled(run.jobs.values(), run.pods.values()), **found}


def doubled(jobs: Iterable[Json], pods: Iterable[Json]) -> list[str]:
    """Attempts of a job that ran more than once: as two TrainJobs, or as pods of two JobSets of one TrainJob.

    A JobSet that restarts keeps its uid. One that Trainer makes again, while the first one's TrainJob is on its way
    out, does not.
    """
    made, ran = defaultdict(set), defaultdict(set)
    for job in jobs:
        labels = job["metadata"]["labels"]
        made[labels["zoetrope/step"], labels["zoetrope/attempt"]].add(job["metadata"]["uid"])
    for pod in pods:
        labels = pod["metadata"]["labels"]
        if GENERATION in labels:
            ran[labels[JOBSET], labels["zoetrope/attempt"]].add(labels[GENERATION])
    twice = [f"{step} attempt {attempt}: {len(uids)} jobs" for (step, attempt), uids in made.items() if len(uids) > 1]
    for (name, attempt), uids in ran.items():
        if len(uids) > 1:
            twice.append(f"{name} attempt {attempt}: its pods ran {len(uids)} times")
    return twice


def orphans(run: Run) -> list[str]:
    """Jobs and pods that still hold something although their run is over or gone, after the reaper had its time."""
    goes_on = [f"the run {run.run_id} has not ended"]
    if last(lambda: [] if run.is_deleted() or run.phase() in ENDED else goes_on, ORPHAN_SECONDS, 3):
        return goes_on
    return last(run.left, ORPHAN_SECONDS, 3)


def lost(run: Run) -> list[str]:
    """Pods that were seen and are not in the ledger or have no end there, and reservations that were not settled."""
    # The reaper passes every minute.
    return last(lambda: missing(run.run_files.store, run.run_id, run.pods), LEDGER_SECONDS, 5)


def missing(store: Any, run_id: str, pods: Mapping[str, Json]) -> list[str]:
    """What the ledger of a run lacks now of the pods (by uid) that were seen."""
    chains = {uid: events for (_, uid), events in read_pods(store, run_id).items()}
    # A step notes its own pod too, which counts where the pod was gone before anybody looked.
    noted = {entry.pod for entry in collect(store, run_id)}
    found = []
    for uid, pod in pods.items():
        name = pod["metadata"]["name"]
        if uid not in chains and (JOBSET in pod["metadata"]["labels"] or name not in noted):
            found.append(f"no chain of {name}")
        elif uid in chains and chains[uid][-1].kind != "outcome":
            found.append(f"no end of {name}")
    return found + [f"reservation of {each.job}" for each in open_reservations(store, run_id)]


def last(look: Callable[[], list[str]], seconds: float, pause: float) -> list[str]:
    """What is still found after some time; nothing as soon as nothing is."""
    end = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < end:
        time.sleep(pause)
    return found
