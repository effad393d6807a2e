"""What is shown of a run and its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
"""KFP's states of a run that has ended."""


@dataclass(frozen=True)
class StepView:
    """One step of a run.

    Attributes:
        step: its name.
        state: `waiting`, `running`, `succeeded`, `reused`, `failed`, `skipped`, `cancelled`, `not started`, or
            `unknown` where nobody who can be asked knows it.
        seconds: since it started, or of its whole run; None before, and where it is not known.
        attempts: containers started; 0 for an answer from the cache.
        error: what KFP or Argo says; the step's own message is in its log and verdict.
    """

    step: str
    state: str
    seconds: float | None
    attempts: int
    error: str = ""


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        run_id: KFP's id, which is the run id everywhere.
        name: shown in the UI.
        pipeline: name of the pipeline, where it is known.
        state: as of a step.
        created: when it was submitted.
        seconds: so far.
        description: what the submission wrote down.
        error: what KFP says of a failed run.
        steps: in the order of the pipeline.
        parameters: inputs of the run.
    """

    run_id: str
    name: str
    pipeline: str
    state: str
    created: datetime | None
    seconds: float | None
    description: str = ""
    error: str = ""
    steps: tuple[StepView, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ("succeeded", "failed", "cancelled", "skipped")


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Up to now where there is no end; None where there is no start."""
    if start is None:
        return None
    return max(((end or datetime.now(UTC)) - start).total_seconds(), 0.0)
