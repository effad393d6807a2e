"""Somebody ends the run in mid-training: nothing of it goes on."""

from __future__ import annotations

import time

from tests.e2e.cases.common import Seen, start
from tests.e2e.cluster import Run, kubectl, kubeflow, wait, zoetrope

GONE_SECONDS, REAPED_SECONDS = 60.0, 150.0


def terminated(number: int, runs: list[Run]) -> list[Seen]:
    """Terminate in mid-training: the launcher stops its job."""
    run = start(runs)
    run.training(after=20)
    return [_terminate(run, GONE_SECONDS)]


def terminated_without_launcher(number: int, runs: list[Run]) -> list[Seen]:
    """The launcher is killed first, so the reaper alone stops the job."""
    run = start(runs, "cluster.retry_seconds=600")
    run.training(after=20)
    kubectl("delete", "pod", run.launcher("stage_1"), "--grace-period=0", "--force")
    return [_terminate(run, REAPED_SECONDS)]


def run_deleted(number: int, runs: list[Run]) -> list[Seen]:
    """The run is deleted in mid-training, its Workflow with it."""
    run = start(runs)
    run.training(after=20)
    begun = time.monotonic()
    kubeflow().call("runs", "run_service_delete_run", run_id=run.run_id)
    wait("the workflow is gone", run.is_deleted, REAPED_SECONDS)
    return [_gone(run, begun, REAPED_SECONDS)]


def _terminate(run: Run, seconds: float) -> Seen:
    begun = time.monotonic()
    zoetrope("runs", "cancel", run.run_id)
    seen = _gone(run, begun, seconds)
    run.ended(120)
    return seen


def _gone(run: Run, begun: float, seconds: float) -> Seen:
    """Waits until the job and its pods are gone; `begun` is before the call that ends the run."""
    wait("the job is gone", lambda: not run.left(), 2 * seconds)
    took = time.monotonic() - begun
    wrong = [] if took <= seconds else [f"the job was there for {took:.0f} s"]
    return Seen(f"gone within {seconds:.0f} s", wrong, took)
