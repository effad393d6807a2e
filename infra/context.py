"""What a step is given and what it gives back."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store

if TYPE_CHECKING:
    from zoetrope.infra.placement import Placement


@dataclass
class StepContext:
    """The outside world of one execution of a step.

    Attributes:
        step: name of the step, e.g. `curate` or `stage_1`.
        store: where products go.
        work: scratch folder, removed afterwards.
        run_directory: folder of the run; events and the tracking outbox lie here.
        run_id: the pipeline run.
        attempt: 1 for the first attempt at this step in this run.
        resume: folder that outlives a killed attempt and is the same for equal configuration, inputs and code;
            work that continues (training state) lies here, and it is removed when the step ends well.
        placement: where the step's job runs on a cluster; None where jobs run on this machine.
        key: the step key (`zoetrope.infra.keys`), another one in each run that computes anew; empty where nobody
            computed it.
        fresh: whether nothing that was computed before may be used.
    """

    step: str
    store: Store
    work: Path
    run_directory: Path
    run_id: str = "local"
    attempt: int = 1
    resume: Path | None = None
    placement: Placement | None = None
    key: str = ""
    fresh: bool = False

    @property
    def outbox(self) -> Path:
        """JSON lines of metrics and parameters on their way to MLflow: written at once, sent when it answers."""
        return self.run_directory / "tracking" / f"{self.step}.{self.attempt}.jsonl"

    def log_metrics(self, values: Mapping[str, float], index: int = 0) -> None:
        """Appends metrics to the outbox; `index` is the training step on the x axis."""
        self._append(self.outbox, {"kind": "metrics", "values": dict(values), "index": index, "time": time.time()})

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Appends parameters to the outbox."""
        self._append(self.outbox, {"kind": "parameters", "values": dict(values), "time": time.time()})

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Tells the person who waits: a short message and, where known, how much is done (0 to 1)."""
        self.event("progress", message=message, fraction=fraction)

    def event(self, kind: str, /, **fields: Any) -> None:
        """Appends an event to the run's `events.jsonl`, which the command line follows."""
        line = {"time": time.time(), "step": self.step, "event": kind, **fields}
        self._append(self.run_directory / "events.jsonl", line)

    @staticmethod
    def _append(path: Path, line: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


@dataclass
class StepResult:
    """What a step made.

    Attributes:
        product: the step's manifest (canonical JSON in the store), the only thing that later steps read.
        key_figure: one short phrase for tables, e.g. `612 of 655 clips kept`.
        metrics: final numbers, logged to MLflow and shown in the report.
        parameters: settings worth comparing between runs.
        artifacts: name -> object worth keeping with the MLflow run (a video, a contact sheet, a table).
        gates: one dict per Great Expectations gate: {name, success, statistics, docs (URI), failures}.
        page: HTML fragment that shows the result in the Kubeflow UI and in the report; empty for none.
        files: relative path -> content of small files that shall lie beside the page in the Kubeflow UI.
    """

    product: Reference
    key_figure: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Reference] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    page: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
