"""Tells MLflow what happened in a pod: `python -m zoetrope.infra.tracking.pod_publisher WHAT < FIELDS.json`.

A process of its own, because importing MLflow costs seconds and memory. It prints what it found out as one JSON line.
What MLflow does not take now lies in the store, and `finish` sends it at the end of the run or of a later retry.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.infra.redact import redacted
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.publish import run_link
from zoetrope.infra.store import get_json, open_store
from zoetrope.infra.tracking.steps import log_step
from zoetrope.infra.tracking.tracker import RunStatus, Tracker


class PodPublisher:
    """MLflow as the pods of one run see it.

    Args:
        settings: of the pod.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = open_store(settings.store)
        self.run_files = RunFiles(self.store, settings.run_id)
        self.tracker = Tracker(settings.tracking_uri, settings.experiment)

    def run(self) -> str:
        """The MLflow run of this pipeline run, opened where it is not open yet."""
        plan = self.run_files.plan()
        known = self.tracker.find_run(self.settings.run_id)
        if known is not None:
            return known
        tags = {"zoetrope.kubeflow_run": run_link(self.settings) or self.settings.run_id}
        if plan is None:
            return self.tracker.start_run(self.settings.run_id, self.settings.run_id, tags=tags)
        parameters: dict[str, Any] = {"recipe": plan.recipe, "pipeline": plan.pipeline, **plan.arguments}
        parameters |= {"recipe_digest": plan.recipe_digest, "commit": plan.commit, "budget_usd": plan.budget_usd}
        name = f"{plan.recipe}-{plan.pipeline}-{self.settings.run_id[:8]}"
        return self.tracker.start_run(self.settings.run_id, name, parameters, tags)

    def open(self, step: str) -> dict[str, str]:
        """The nested run of a step, so that a job can log into it: {run, parent, experiment, url}."""
        parent = self.run()
        run = self.tracker.step_run(parent, step)
        return {"run": run, "parent": parent, "experiment": str(self.tracker.experiment_id), "url": self._url(run)}

    def step(self, step: str) -> dict[str, str]:
        """Logs a finished step of this run."""
        entry = self.run_files.steps()[step]
        opened = self.open(step)
        self._log(opened["run"], step, entry["record"])
        self.run_files.note_step(step, entry["record"], entry["product"], opened["run"])
        return opened

    def finish(self, status: RunStatus) -> dict[str, str]:
        """Logs what is missing, reused steps included, and closes the run."""
        parent = self.run()
        steps, plan = self.run_files.steps(), self.run_files.plan()
        metrics: dict[str, float] = {}
        for step, entry in steps.items():
            if not entry["mlflow_run"]:
                run = self.tracker.step_run(parent, step)
                self._log(run, step, entry["record"])
                self.run_files.note_step(step, entry["record"], entry["product"], run)
            if plan is not None and step in plan.headline:
                metrics |= get_json(self.store, entry["record"])["metrics"]
        self._send_kept(parent)
        self.tracker.finish(parent, status, metrics)
        return {"run": parent, "url": self._url(parent)}

    def _log(self, run: str, step: str, reference: str) -> None:
        for uri in self.run_files.kept_metrics():
            if uri.rpartition("/")[2].split(".")[0] == step:
                self._send(uri, run)
        record = get_json(self.store, reference)
        log_step(self.tracker, run, step, record, reference, self.settings.run_id, self.store)

    def _send_kept(self, parent: str) -> None:
        """Metrics of steps that failed."""
        for uri in self.run_files.kept_metrics():
            self._send(uri, self.tracker.step_run(parent, uri.rpartition("/")[2].split(".")[0]))

    def _send(self, uri: str, run: str) -> None:
        with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
            outbox = self.store.fetch(uri, Path(folder) / "outbox.jsonl")
            lines = outbox.read_bytes().count(b"\n")
            if self.tracker.flush(outbox, run) < lines:
                raise ZoetropeError(f"MLflow did not take all of {uri}", "it is sent later", retryable=True)
        self.store.delete(uri)

    def _url(self, run: str) -> str:
        base = redacted(self.settings.tracking_url or self.settings.tracking_uri)
        return f"{base.rstrip('/')}/#/experiments/{self.tracker.experiment_id}/runs/{run}"


def main() -> None:
    """Does one thing and prints what it found out; exit 75 and one line where MLflow does not answer."""
    what, fields = sys.argv[1], json.loads(sys.stdin.read() or "{}")
    publisher = PodPublisher(Settings())
    try:
        if what == "run":
            found = {"run": publisher.run()}
        elif what == "open":
            found = publisher.open(fields["step"])
        elif what == "step":
            found = publisher.step(fields["step"])
        else:
            found = publisher.finish(fields["status"])
    except ZoetropeError as error:
        print(f"zoetrope: tracking: {error.headline}; kept in the store and sent later", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_RETRYABLE) from None
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
