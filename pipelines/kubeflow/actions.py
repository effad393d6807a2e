"""Cancels and retries runs."""

from __future__ import annotations

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.store import Store
from zoetrope.pipelines.kubeflow.client import Kubeflow
from zoetrope.pipelines.kubeflow.runs import get_run
from zoetrope.pipelines.kubeflow.views import RunView


def cancel(kubeflow: Kubeflow, run_id: str) -> RunView:
    """Terminates a run; its steps stop their jobs. An ended run is left as it is."""
    run = get_run(kubeflow, run_id)
    if run.ended:
        return run
    kubeflow.call("runs", "run_service_terminate_run", run_id=run_id)
    return get_run(kubeflow, run_id)


def retry(kubeflow: Kubeflow, run_id: str, store: Store) -> int:
    """Runs the failed steps of a run again and returns how many verdicts were in their way.

    Raises:
        ZoetropeError: the run has not failed, or the store does not answer; nothing is retried then, since every
            step would only repeat its verdict.
    """
    run = get_run(kubeflow, run_id)
    if run.state not in ("failed", "cancelled"):
        raise ZoetropeError(
            f"run {run_id} is {run.state}: there is nothing to retry",
            "wait for it, or start a new one with `zoetrope submit`; finished steps come from the cache",
        )
    cleared = len(RunFiles(store, run_id).verdicts.clear_all())
    kubeflow.call("runs", "run_service_retry_run", run_id=run_id)
    return cleared
