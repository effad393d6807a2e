"""Follows a local run from the driver: MLflow, dataset version, run record.

Steps only append to files; whatever is slow or may be away (MLflow, git, DVC) is done here, beside the pipeline.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoetrope.components.report.config import ReportConfig
from zoetrope.components.report.step import render_report
from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import collect
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.references import Reference
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import get_json, open_store
from zoetrope.infra.store.local import write_whole
from zoetrope.infra.tracking.steps import log_step
from zoetrope.pipelines.definition.resolve import report_steps
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS
from zoetrope.pipelines.local.events import EventReader
from zoetrope.pipelines.local.plan import LocalRunPlan, StatePaths

if TYPE_CHECKING:
    from zoetrope.infra.tracking import Tracker

Status = Literal["FINISHED", "FAILED", "KILLED"]
POLL_SECONDS = 2.0


class Follower:
    """One thread that handles events in order; `finish` handles the rest and closes the run.

    Args:
        plan: the run.
        paths: folders of the state directory.
        settings: of the run.
    """

    def __init__(self, plan: LocalRunPlan, paths: StatePaths, settings: Settings) -> None:
        self.plan, self.paths, self.settings = plan, paths, settings
        self.directory = paths.run(plan.run_id)
        self.store = open_store(settings.store)
        self.events = EventReader(self.directory)
        self.records: dict[str, dict[str, Any]] = {}
        self.record_references: dict[str, str] = {}
        self.failures: list[dict[str, Any]] = []
        self.dataset: dict[str, str] = {}
        self.tracker: Tracker | None = None
        self.mlflow_run = ""
        self.mlflow_steps: dict[str, str] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def finish(self, status: str) -> None:
        """Handles what is left, closes the MLflow run and writes the run record."""
        self._done.set()
        self._thread.join()
        self._safely("events", self._handle_new)
        self._safely("records", self._add_cached_records)
        self._safely("dataset version", self._adopt_dataset)
        self._safely("report", self._write_report)
        if self.tracker is not None:
            self._safely("MLflow", lambda: self._close_tracking(status))
        self._safely("run record", lambda: self._write_record(status))

    def _follow(self) -> None:
        self._safely("MLflow", self._open_tracking)
        while not self._done.wait(POLL_SECONDS):
            self._safely("events", self._handle_new)
            self._flush()

    def _handle_new(self) -> None:
        for event in self.events.new():
            if event["event"] == "failed":
                self.failures.append(event)
            if event["event"] not in ("finished", "reused"):
                continue
            step = event["step"]
            self.record_references[step] = event["record"]
            self.records[step] = get_json(self.store, event["record"])
            if STEPS[step].makes == "dataset":
                self._safely("dataset version", self._adopt_dataset)
            self._safely("MLflow", lambda step=step: self._log_step(step))

    def _add_cached_records(self) -> None:
        """The report was given the records of all steps, also of those that the cache answered."""
        given = self.records.get(PIPELINES[self.plan.pipeline][-1], {}).get("inputs", {})
        for step, reference in given.items():
            if step not in self.records:
                self.record_references[step] = reference
                self.records[step] = get_json(self.store, reference)
                self._safely("MLflow", lambda step=step: self._log_step(step))

    # MLflow

    def _open_tracking(self) -> None:
        from zoetrope.infra.tracking import Tracker

        self.tracker = Tracker(self.settings.tracking_uri, self.settings.experiment)
        parameters = {"recipe": self.plan.recipe_name, "pipeline": self.plan.pipeline, **self.plan.arguments}
        parameters |= {"recipe_digest": self.plan.recipe_digest, "commit": self.settings.commit}
        self.mlflow_run = self.tracker.start_run(self.plan.run_id, self.plan.run_id, parameters)

    def _step_run(self, step: str) -> str:
        assert self.tracker is not None
        if step not in self.mlflow_steps:
            self.mlflow_steps[step] = self.tracker.step_run(self.mlflow_run, step)
        return self.mlflow_steps[step]

    def _flush(self) -> None:
        if self.tracker is None:
            return
        for outbox in sorted((self.directory / "tracking").glob("*.jsonl")):
            step = outbox.name.split(".")[0]
            self._safely("MLflow", lambda s=step, o=outbox: self.tracker.flush(o, self._step_run(s)))

    def _log_step(self, step: str) -> None:
        """Everything that a finished (or cached) step leaves in its nested run."""
        if self.tracker is None:
            return
        run = self._step_run(step)
        self._flush()
        reference = self.record_references[step]
        log_step(self.tracker, run, step, self.records[step], reference, self.plan.run_id, self.store)

    def _close_tracking(self, status: str) -> None:
        assert self.tracker is not None
        self._flush()
        metrics: dict[str, float] = {"cost_usd": float(self._run_cost())}
        for step, record in self.records.items():
            metrics |= record.get("metrics", {}) if STEPS[step].headline else {}
        tags = {"zoetrope.dataset_digest": self.dataset.get("digest", "")}
        tags["zoetrope.dataset_tag"] = self.dataset.get("tag", "")
        self.tracker.set_tags(self.mlflow_run, tags)
        report = self.directory / "report.html"
        if report.exists():
            self.tracker.log_artifact(self.mlflow_run, report)
        for step, run in self.mlflow_steps.items():
            if step not in self.records:
                self.tracker.finish(run, "KILLED" if status == "KILLED" else "FAILED")
        final: Status = "FINISHED" if status == "FINISHED" else "KILLED" if status == "KILLED" else "FAILED"
        self.tracker.finish(self.mlflow_run, final, metrics)

    # Dataset version and run record

    def _adopt_dataset(self) -> None:
        made = [record["product"] for step, record in self.records.items() if STEPS[step].makes == "dataset"]
        reference = made[-1] if made else self.plan.arguments.get("dataset")
        if not reference or self.dataset:
            return
        registry = DatasetRegistry(Path(self.settings.dataset_registry), self.store)
        version = registry.adopt(reference, self.plan.run_id)
        self.dataset = {"tag": version.tag, "revision": version.revision, "digest": version.digest}

    def _write_report(self) -> None:
        """Puts the report into the run's folder; a run that failed half-way gets one of what it did."""
        path = self.directory / "report.html"
        if "report" in self.records:
            html = get_json(self.store, self.records["report"]["product"])["html"]
            self.store.fetch(Reference.parse(html).uri, path)
        elif self.records:
            commit, _, dirty = self.settings.commit.partition("+")
            config = ReportConfig(
                run_id=self.plan.run_id,
                recipe=self.plan.recipe_name,
                recipe_hash=self.plan.recipe_digest,
                commit=commit,
                dirty=bool(dirty),
                tracking_uri=self.settings.tracking_uri,
                mlflow_run_id=self.mlflow_run,
                steps=report_steps(),
            )
            write_whole(path, render_report(config, list(self.record_references.values()), self.store).encode())

    def _run_cost(self) -> Any:
        sheet = load_price_sheet(self.settings.price_sheet)
        return sum(cost(entry, sheet) for entry in collect(self.store, self.plan.run_id))

    def _write_record(self, status: str) -> None:
        steps = {
            step: {
                "status": "cached" if record["run_id"] != self.plan.run_id else "succeeded",
                "record": self.record_references[step],
                "mlflow_run": self.mlflow_steps.get(step, ""),
                **{key: record[key] for key in ("attempt", "seconds", "cost_usd", "resources", "usage", "product")},
                "key_figure": record["key_figure"],
            }
            for step, record in self.records.items()
        }
        for failure in self.failures:
            steps.setdefault(failure["step"], {"status": failure["kind"], "message": failure["message"]})
        commit, _, dirty = self.settings.commit.partition("+")
        value = {
            "schema": "zoetrope.run.v1",
            "run_id": self.plan.run_id,
            "status": status,
            "pipeline": self.plan.pipeline,
            "recipe": {"name": self.plan.recipe_name, "digest": self.plan.recipe_digest},
            "arguments": self.plan.arguments,
            "command": self.plan.command,
            "started": self.plan.started,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "code": {"commit": commit, "dirty": bool(dirty)},
            "dataset": self.dataset,
            "cost_usd": str(self._run_cost()),
            "mlflow": {"tracking_uri": self.settings.tracking_uri, "run": self.mlflow_run},
            "steps": steps,
        }
        write_whole(self.directory / "record.json", json.dumps(value, indent=1).encode())

    def _safely(self, what: str, work: Any) -> None:
        try:
            work()
        except ZoetropeError as error:
            print(f"{what}: {error}", file=sys.stderr)  # noqa: T201
        except Exception as error:  # noqa: BLE001 - an outage of tracking or of the registry never stops training
            print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
