"""How a run ended and why, from the messages that its steps left in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoetrope.infra.errors import EXIT_OK, EXIT_RETRYABLE, EXIT_USER_ERROR, ZoetropeError, placed
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.store import Store
from zoetrope.pipelines.kubeflow.views import RunView


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to.

    Attributes:
        exit_code: 0, 2 or 75, as of a local run.
        lines: the reasons, one a failed step, for people.
    """

    exit_code: int
    lines: tuple[str, ...] = ()


def run_outcome(run: RunView, store: Store | None) -> RunOutcome:
    """The outcome of an ended run; without a store only what KFP says is known.

    A step that failed permanently leaves `verdicts/RUN/STEP.json` with headline and hint. One that left nothing used up
    its retries on faults that may pass, and so may be retried.
    """
    if run.state == "succeeded":
        return RunOutcome(EXIT_OK)
    if run.state == "cancelled":
        return RunOutcome(EXIT_USER_ERROR, ("the run was cancelled",))
    left = _left(run.run_id, store) if store is not None else None
    lines = [
        _line(run.run_id, step.step, step.error, (left or {}).get(step.step))
        for step in run.steps
        if step.state == "failed"
    ]
    permanent = left is None or bool(left) or not lines
    if not lines:
        lines.append(run.error or f"the run ended as {run.state}")
    elif not permanent:
        lines.append(f"no step failed permanently: `zoetrope runs retry {run.run_id}` goes on where it stopped")
    return RunOutcome(EXIT_USER_ERROR if permanent else EXIT_RETRYABLE, tuple(lines))


def _line(run_id: str, step: str, error: str, said: ZoetropeError | None) -> str:
    headline = (said.headline if said else "") or error or "failed"
    hint = (said.hint if said else "") or f"`zoetrope runs logs {run_id} {step}` shows why"
    return f"{placed(step, headline)}\n  -> {hint}"


def _left(run_id: str, store: Store) -> Mapping[str, ZoetropeError] | None:
    """Step -> verdict; None where the store is out of reach from here."""
    try:
        return RunFiles(store, run_id).verdicts.all()
    except (ZoetropeError, ValueError, KeyError):
        return None
