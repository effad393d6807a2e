"""Follows a local run from the driver: MLflow, dataset version, run record.

Steps only append to files; whatever is slow or may be away (MLflow, git, DVC) is done here, beside the pipeline.
"""

from __future__ import annotations

import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.report.config import ReportConfig
from zoetrope.components.report.step import render_report
from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import collect
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.redact import redacted
from zoetrope.infra.runs.build import StepFailure, build_run_record, reused_records
from zoetrope.infra.runs.record import CodeVersion, RecipeVersion, RunDataset, RunHeader, RunStatus, TrackingRun
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import get_json, open_store
from zoetrope.infra.store.local import write_whole
from zoetrope.infra.tracking.steps import log_step
from zoetrope.pipelines.definition.resolve import report_steps
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS
from zoetrope.pipelines.local.events import EventReader
from zoetrope.pipelines.local.plan import LocalRunPlan, StatePaths
from zoetrope.pipelines.local.run_files import write_local_record

if TYPE_CHECKING:
    from decimal import Decimal

    from zoetrope.infra.tracking import Tracker

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
        self.failures: dict[str, StepFailure] = {}
        self.dataset: RunDataset | None = None
        self.tracker: Tracker | None = None
        self.mlflow_run = ""
        self.mlflow_steps: dict[str, str] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def finish(self, status: RunStatus) -> None:
        """Handles what is left, closes the MLflow run and writes the run record."""
        self._done.set()
        self._thread.join()
        self._safely("events", self._handle_new)
        self._safely("records", self._add_reused)
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
                said = event.get("headline") or f"{event['error']}: {event['message']}"
                self.failures[event["step"]] = StepFailure(event["kind"], said, event.get("hint", ""))
            elif event["event"] in ("finished", "reused"):
                self._take(event["step"], event["record"])

    def _add_reused(self) -> None:
        """The report was given the records of all steps, also of those that KFP's cache answered."""
        for step, reference in reused_records(self.store, self.record_references, self._order).items():
            self._take(step, reference)

    def _take(self, step: str, reference: str) -> None:
        """What a step made, in this run or in an earlier one."""
        self.record_references[step] = reference
        self.records[step] = get_json(self.store, reference)
        if STEPS[step].makes == "dataset":
            self._safely("dataset version", self._adopt_dataset)
        self._safely("MLflow", lambda: self._log_step(step))

    @property
    def _order(self) -> tuple[str, ...]:
        return PIPELINES[self.plan.pipeline]

    # MLflow

    def _open_tracking(self) -> None:
        from zoetrope.infra.tracking import Tracker

        self.tracker = Tracker(self.settings.tracking_uri, self.settings.experiment)
        parameters = {"recipe": self.plan.recipe_name, "pipeline": self.plan.pipeline}
        parameters |= {name: redacted(value) for name, value in self.plan.arguments.items()}
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
        """Everything that a step leaves in its nested run."""
        if self.tracker is None:
            return
        run = self._step_run(step)
        self._flush()
        reference = self.record_references[step]
        log_step(self.tracker, run, step, self.records[step], reference, self.plan.run_id, self.store)

    def _close_tracking(self, status: RunStatus) -> None:
        assert self.tracker is not None
        self._flush()
        metrics: dict[str, float] = {"cost_usd": float(self._run_cost())}
        for step, record in self.records.items():
            metrics |= record.get("metrics", {}) if STEPS[step].headline else {}
        known = self.dataset or RunDataset()
        tags = {"zoetrope.dataset_digest": known.digest, "zoetrope.dataset_tag": known.tag}
        self.tracker.set_tags(self.mlflow_run, tags)
        report = self.directory / "report.html"
        if report.exists():
            self.tracker.log_artifact(self.mlflow_run, report)
        for step, run in self.mlflow_steps.items():
            if step not in self.records:
                self.tracker.finish(run, "KILLED" if status == "KILLED" else "FAILED")
        self.tracker.finish(self.mlflow_run, status, metrics)

    # Dataset version, report and run record

    def _adopt_dataset(self) -> None:
        """Gives the dataset that the run made, or started from, its version; nobody else does."""
        made = [record["product"] for step, record in self.records.items() if STEPS[step].makes == "dataset"]
        reference = made[-1] if made else self.plan.arguments.get("dataset")
        if not reference or self.dataset is not None:
            return
        registry = DatasetRegistry(Path(self.settings.dataset_registry), self.store)
        version = registry.adopt(reference, self.plan.run_id)
        self.dataset = RunDataset(
            reference=reference, name=version.name, tag=version.tag, revision=version.revision, digest=version.digest
        )

    def _write_report(self) -> None:
        """Writes the report of all that was done, with what only the run knows: dataset version and MLflow run.

        A run that failed half-way gets one as well; the step `report` had not the dataset's tag to say.
        """
        if not self.records:
            return
        if "report" in self.records:
            config = ReportConfig.model_validate(self.records["report"]["config"])
        else:
            code = CodeVersion.parse(self.settings.commit)
            config = ReportConfig(
                run_id=self.plan.run_id,
                recipe=self.plan.recipe_name,
                recipe_hash=self.plan.recipe_digest,
                commit=code.commit,
                dirty=code.dirty,
                tracking_uri=redacted(self.settings.tracking_uri),
                steps=report_steps(),
            )
        known = self.dataset or RunDataset()
        facts = {"dataset_tag": known.tag, "dataset_revision": known.revision, "mlflow_run_id": self.mlflow_run}
        told = [reference for step, reference in self.record_references.items() if step != "report"]
        html = render_report(config.model_copy(update=facts), told, self.store)
        write_whole(self.directory / "report.html", html.encode())

    def _run_cost(self) -> Decimal | int:
        sheet = load_price_sheet(self.settings.price_sheet)
        return sum(cost(entry, sheet) for entry in collect(self.store, self.plan.run_id))

    def _write_record(self, status: RunStatus) -> None:
        first = next(iter(self.failures.items()), None)
        header = RunHeader(
            run_id=self.plan.run_id,
            status=status,
            message=f"{first[0]}: {first[1].message}" if first and status != "FINISHED" else "",
            pipeline=self.plan.pipeline,
            recipe=RecipeVersion(name=self.plan.recipe_name, digest=self.plan.recipe_digest),
            arguments=self.plan.arguments,
            command=self.plan.command,
            started=datetime.fromisoformat(self.plan.started),
            code=CodeVersion.parse(self.settings.commit),
            dataset=self.dataset,
            price_sheet=self.settings.price_sheet,
            mlflow=TrackingRun(tracking_uri=self.settings.tracking_uri, run=self.mlflow_run),
        )
        record = build_run_record(
            self.store,
            header,
            self.record_references,
            failures=self.failures,
            mlflow_runs=self.mlflow_steps,
            order=self._order,
        )
        write_local_record(self.directory, record)

    def _safely(self, what: str, work: Any) -> None:
        try:
            work()
        except ZoetropeError as error:
            print(f"{what}: {error}", file=sys.stderr)  # noqa: T201
        except Exception as error:  # noqa: BLE001 - an outage of tracking or of the registry never stops training
            print(redacted(f"{what}: {type(error).__name__}: {error}"), file=sys.stderr)  # noqa: T201
