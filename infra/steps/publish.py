"""What a step publishes on a cluster: its entry in the run's files, metrics and pages in MLflow, links."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain, next_attempt
from zoetrope.infra.redact import redacted
from zoetrope.infra.resources import Resources
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, open_store

log = logging.getLogger(__name__)

LAUNCHER_RESOURCES = Resources(cpu=0.05, memory_gb=0.25)
"""What a pod asks for that only launches, resolves or files."""
PUBLISH_SECONDS = 120.0
"""MLflow that does not answer must not hold a step for longer."""


class ClusterRun:
    """The run that this pod works for.

    Args:
        settings: of the pod.
        store: of the run.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.run_files = RunFiles(store, settings.run_id)

    @property
    def fresh(self) -> bool:
        """Whether this run computes everything anew."""
        plan = self.run_files.plan()
        return plan is not None and plan.fresh

    def failed(self, context: StepContext, error: BaseException) -> None:
        """Keeps the verdict of a failure that a repetition would not fix, and what was measured until then."""
        self.run_files.verdicts.note_failure(context.step, error)
        self._keep_outbox(context)

    def finished(self, context: StepContext, record: dict[str, Any], reference: str) -> dict[str, str]:
        """Files the step and tells MLflow; returns links for the step's page (text -> URL)."""
        self._keep_outbox(context)
        self.run_files.note_step(context.step, reference, record["product"])
        published = publish(self.settings, "step", {"step": context.step})
        links = {}
        if published.get("url"):
            links["MLflow run of this step"] = str(published["url"])
        if self.settings.kubeflow_url:
            links["pipeline run"] = run_link(self.settings)
        return links

    def _keep_outbox(self, context: StepContext) -> None:
        if context.outbox.exists():
            self.run_files.keep_metrics(f"{context.step}.{context.attempt}", context.outbox.read_bytes())


@contextmanager
def task_errors(step: str) -> Iterator[None]:
    """Around the work of a task that is no step (`resolve`, `finish`): verdicts and one line, as steps have them.

    On a cluster it begins an entry in the ledger as well, which names the pod: a run that is deleted early takes its
    pods with it before anybody else has looked.
    """
    settings = Settings()
    store = open_store(settings.store)
    run = ClusterRun(settings, store) if settings.cluster else None
    if run is not None:
        run.run_files.verdicts.refuse_known_failure(step, retry=settings.retry)
    try:
        chain = LedgerChain(store, settings.run_id, step, next_attempt(store, settings.run_id, step)) if run else None
        if chain is not None:
            chain.allocate(LAUNCHER_RESOURCES, pod=settings.pod)
        yield
        if chain is not None:
            chain.outcome("succeeded")
    except ZoetropeError as error:
        print(f"zoetrope: {step}: {error}", file=sys.stderr)  # noqa: T201
        if run is not None:
            run.run_files.verdicts.note_failure(step, error)
        raise SystemExit(error.exit_code) from None


def tracking_environment(context: StepContext) -> dict[str, str]:
    """Variables by which the job of a step logs into the step's own MLflow run.

    Empty on one machine, where the run's driver sends metrics, and while MLflow does not answer.
    """
    settings = Settings()
    opened = publish(settings, "open", {"step": context.step}) if settings.cluster else {}
    if not opened:
        return {}
    return {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_EXPERIMENT_ID": str(opened["experiment"]),
        "MLFLOW_RUN_ID": str(opened["run"]),
    }


def run_link(settings: Settings) -> str:
    """Where a person sees the pipeline run; empty where the address of Kubeflow's UI is not known."""
    root = redacted(settings.kubeflow_url).rstrip("/")
    return f"{root}/#/runs/details/{settings.run_id}" if root else ""


def publish(settings: Settings, what: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Tells MLflow in a process of its own: importing it costs seconds and memory that a waiting pod should not hold.

    Args:
        settings: of the pod.
        what: `run`, `step` or `finish`; see `zoetrope.infra.tracking.pod_publisher`.
        fields: what it needs.

    Returns:
        What it found out, e.g. {run, experiment, url}; empty when MLflow does not answer, which never fails a step.
    """
    if not settings.tracking_uri:
        return {}
    command = [sys.executable, "-m", "zoetrope.infra.tracking.pod_publisher", what]
    try:
        done = subprocess.run(
            command, input=json.dumps(fields), stdout=subprocess.PIPE, text=True, check=False, timeout=PUBLISH_SECONDS
        )
    except subprocess.TimeoutExpired:
        log.warning(
            "MLflow at %s did not take everything within %.0f s; sent later",
            redacted(settings.tracking_uri),
            PUBLISH_SECONDS,
        )
        return {}
    if done.returncode:
        return {}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
