"""Ends a step with the result that is known for its key: nothing runs and nothing is paid."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

from zoetrope.infra.context import StepContext
from zoetrope.infra.keys import StoredResult
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.outputs import DOCUMENT, Outputs
from zoetrope.infra.store import Store


def reuse(
    known: StoredResult, settings: Settings, store: Store, directory: Path, outputs: Outputs | None
) -> tuple[str, str]:
    """Takes a known result; the record stays that of the run which made it.

    Args:
        known: the result.
        settings: of the process.
        store: of the run.
        directory: of the run, for events.
        outputs: artifacts of KFP; None outside KFP.

    Returns:
        References of product and record.
    """
    result = known.step_result(store)
    if settings.cluster:  # MLflow hears of it from `finish`, so that this pod need not wait
        RunFiles(store, settings.run_id).note_step(known.step, known.record, known.product)
    if outputs is not None:
        origin = f"<p>Made by run {escape(known.run_id)}; nothing was computed now.</p>"
        body = result.page or f"<p>{escape(result.key_figure)}</p>"
        page = body if body.startswith(DOCUMENT) else origin + body
        outputs.write(known.step, replace(result, page=page), {})
    context = StepContext(known.step, store, directory / "work", directory, settings.run_id)
    context.event("reused", record=known.record, product=known.product, key_figure=result.key_figure, run=known.run_id)
    return known.product, known.record
