"""What one attempt of a step held, for how long, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoetrope.infra.ledger.events import Event
from zoetrope.infra.resources import Resources


@dataclass(frozen=True)
class LedgerEntry:
    """One attempt of one step.

    Attributes:
        run_id: the pipeline run.
        step: name of the step.
        attempt: 1 for the first try.
        resources: what was allocated.
        started: seconds since the epoch at which the allocation began.
        seconds: how long it was held; for an open allocation until the last sign of life.
        outcome: `open` when the writer never said how it ended (running now, or killed).
        cpu_seconds: CPU time used, all processes of the step.
        peak_memory_bytes: most resident memory.
        price_sheet: name of the sheet in force when it was allocated; empty when none was chosen.
        reason: why it failed; empty otherwise.
        source: who wrote it down: the `step` itself, or a collector that looked at the `pod`.
        pod: name of the pod; empty outside a cluster.
        role: what the pod was there for: `step`, `driver` (KFP's own), `job` (a node of a TrainJob); empty outside.
        job: name of the TrainJob that the pod belongs to; empty for others.
        node_type: type of the machine, as its cloud calls it; empty where the node does not say.
        queued_seconds: from the pod's creation until it had a node; not billed.
    """

    run_id: str
    step: str
    attempt: int
    resources: Resources
    started: float
    seconds: float
    outcome: Literal["succeeded", "failed", "cancelled", "open"]
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    price_sheet: str = ""
    reason: str = ""
    source: Literal["step", "pod"] = "step"
    pod: str = ""
    role: str = ""
    job: str = ""
    node_type: str = ""
    queued_seconds: float = 0.0


def entry_of(run_id: str, step: str, attempt: int, events: list[Event]) -> LedgerEntry:
    """Sums up a verified chain."""
    first, last = events[0], events[-1]
    return LedgerEntry(
        run_id=run_id,
        step=step,
        attempt=attempt,
        resources=Resources.model_validate(first.body["resources"]),
        started=first.time,
        seconds=last.time - first.time,
        outcome=last.body["status"] if last.kind == "outcome" else "open",
        cpu_seconds=last.body.get("cpu_seconds", 0.0),
        peak_memory_bytes=last.body.get("peak_memory_bytes", 0),
        price_sheet=first.body.get("price_sheet", ""),
        reason=last.body.get("reason", ""),
        source="pod" if "pod_uid" in first.body else "step",
        **{
            name: first.body[name]
            for name in ("pod", "role", "job", "node_type", "queued_seconds")
            if name in first.body
        },
    )
