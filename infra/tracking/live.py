"""Sends what a training job measures to MLflow while it trains."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zoetrope.infra.context import StepContext
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.settings import Settings

FLUSH_SECONDS = 10.0


@contextmanager
def live_metrics(context: StepContext, settings: Settings | None = None) -> Iterator[None]:
    """Sends the step's outbox every few seconds, for the time of the block, into the run that MLFLOW_RUN_ID names.

    An outage of MLflow never stops the training: what was not sent by the end goes to the store, and the run's exit
    task sends it. Nothing happens where no MLflow run is named.

    Args:
        context: of the step; its outbox is sent.
        settings: read from the environment when None.
    """
    settings = settings or Settings()
    if not settings.cluster:  # on one machine the driver of the run sends them
        yield
        return
    if not settings.mlflow_run_id or not settings.tracking_uri:
        try:
            yield
        finally:
            _keep(context, settings)
        return
    from zoetrope.infra.tracking.tracker import Tracker

    tracker = Tracker(settings.tracking_uri, settings.experiment)
    done = threading.Event()

    def follow() -> None:
        while not done.wait(FLUSH_SECONDS):
            tracker.flush(context.outbox, settings.mlflow_run_id)

    thread = threading.Thread(target=follow, name="live metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tracker.flush(context.outbox, settings.mlflow_run_id)
        _keep(context, settings)


def _keep(context: StepContext, settings: Settings) -> None:
    """What MLflow has not got yet, for the run's exit task."""
    from zoetrope.infra.tracking.outbox import unsent_bytes

    rest = unsent_bytes(context.outbox)
    if rest:
        run_files = RunFiles(context.store, settings.run_id)
        run_files.keep_metrics(f"{context.step}.{context.attempt}.job", rest)
