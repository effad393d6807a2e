"""How a run ended and why, from the messages that its steps left in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoetrope.infra.errors import EXIT_OK, EXIT_RETRYABLE, EXIT_USER_ERROR, ZoetropeError
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


def verdict_prefix(run_id: str) -> str:
    """Key below which the steps of a run leave their verdicts."""
    return f"verdicts/{run_id}/"


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


def _line(run_id: str, step: str, error: str, said: Mapping[str, Any] | None) -> str:
    headline = (said or {}).get("headline") or error or "failed"
    hint = (said or {}).get("hint") or f"`zoetrope runs logs {run_id} {step}` shows why"
    return f"{step}: {str(headline).removeprefix(f'{step}: ')}\n  -> {hint}"


def _left(run_id: str, store: Store) -> Mapping[str, Mapping[str, Any]] | None:
    """Step -> verdict; None where the store is out of reach from here."""
    found: dict[str, Mapping[str, Any]] = {}
    try:
        for uri in store.list(verdict_prefix(run_id)):
            said = json.loads(store.read(uri))
            if isinstance(said, dict):
                found[uri.rpartition("/")[2].removesuffix(".json")] = said
    except (ZoetropeError, ValueError):
        return None
    return found
