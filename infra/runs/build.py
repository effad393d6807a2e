"""Builds the record of a run that has ended, from what its steps left in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from zoetrope.infra.ledger import LedgerEntry, collect
from zoetrope.infra.prices import PriceSheet, cost, load_price_sheet
from zoetrope.infra.runs.record import RunDataset, RunHeader, RunRecord, RunStep
from zoetrope.infra.store import Store, get_json

DATASET, RECORD = "zoetrope.dataset.v1", "zoetrope.record.v1"


@dataclass(frozen=True)
class StepFailure:
    """How a step said that it failed.

    Attributes:
        status: whether it failed or was told to end.
        message: why.
        hint: what to do.
    """

    status: Literal["failed", "cancelled"]
    message: str
    hint: str = ""


def build_run_record(
    store: Store,
    header: RunHeader,
    records: Mapping[str, str],
    *,
    failures: Mapping[str, StepFailure],
    mlflow_runs: Mapping[str, str],
    order: Sequence[str] = (),
) -> RunRecord:
    """The record of a run: the one place where it is made, for runs on one machine and on a cluster.

    What the steps cost and which of them died without a word comes from the ledger, so collect that first.

    Args:
        store: where records of steps and the ledger lie.
        header: what is known of the run; without a dataset version it gets the one that a step made.
        records: step -> reference of its record, of every step that ended well.
        failures: what steps said that did not; those that ended well after all are left out.
        mlflow_runs: step -> nested run of MLflow.
        order: steps of the pipeline.
    """
    sheet = load_price_sheet(header.price_sheet)
    entries = collect(store, header.run_id)
    told = {step: failure for step, failure in failures.items() if step not in records}
    silent = _silent(entries, order, {*records, *told}, killed=header.status == "KILLED")
    steps = {step: _made(store, header.run_id, reference) for step, reference in records.items()}
    steps |= {step: _failed(failure, entries, step) for step, failure in (told | silent).items()}
    spent = {step: _sum((entry for entry in entries if entry.step == step), sheet) for step in steps}
    ordered = sorted(steps, key=lambda step: (order.index(step) if step in order else -1, step))
    return RunRecord(
        **{name: getattr(header, name) for name in type(header).model_fields}
        | {"dataset": header.dataset or _made_dataset(store, steps)},
        finished=datetime.now(UTC),
        cost_usd=_sum(entries, sheet),
        steps={
            step: steps[step].model_copy(update={"cost_usd": spent[step], "mlflow_run": mlflow_runs.get(step, "")})
            for step in ordered
        },
    )


def reused_records(store: Store, records: Mapping[str, str], order: Sequence[str]) -> dict[str, str]:
    """Step -> record of the steps that ran nothing in a run; its last two steps were given them.

    Args:
        store: where records lie.
        records: step -> reference of its record, of the steps that are known to have run.
        order: steps of the pipeline.
    """
    found: dict[str, str] = {}
    for last in order[-2:]:
        inputs = get_json(store, records[last])["inputs"] if last in records else {}
        for step, reference in inputs.items():
            # An input may have the name of a step and be its product.
            if step in order and step not in records and get_json(store, reference).get("schema") == RECORD:
                found[step] = reference
    return found


def _made(store: Store, run_id: str, reference: str) -> RunStep:
    record: dict[str, Any] = get_json(store, reference)
    made = {"record": reference, "product": str(record["product"]), "key_figure": record["key_figure"]}
    if record["run_id"] != run_id:
        return RunStep(status="reused", from_run=str(record["run_id"]), **made)
    held = {name: record[name] for name in ("attempt", "seconds", "resources", "usage")}
    return RunStep(status="succeeded", **made, **held)


def _silent(
    entries: Iterable[LedgerEntry], order: Sequence[str], known: set[str], *, killed: bool
) -> dict[str, StepFailure]:
    """Steps that began and neither made nor said anything: what the ledger, or the pod, knows of their end."""
    last = {
        entry.step: entry
        for entry in entries
        if entry.role in ("", "step") and entry.step in (*order, "resolve") and entry.step not in known
    }
    found = {}
    for step, entry in last.items():
        if entry.outcome == "succeeded":  # what it made is not known: not the record's to say that it failed
            continue
        cancelled = entry.outcome == "cancelled" or killed
        message = entry.reason or "it ended without a word: killed, or its machine was lost"
        found[step] = StepFailure("cancelled" if cancelled else "failed", message)
    return found


def _failed(failure: StepFailure, entries: Iterable[LedgerEntry], step: str) -> RunStep:
    tries = [entry for entry in entries if entry.step == step and entry.role in ("", "step")]
    said = {"status": failure.status, "message": failure.message, "hint": failure.hint}
    if not tries:
        return RunStep.model_validate(said)
    last = tries[-1]
    usage = {"cpu_seconds": last.cpu_seconds, "peak_memory_bytes": last.peak_memory_bytes}
    held = {"attempt": last.attempt, "seconds": round(last.seconds, 3), "resources": last.resources.model_dump()}
    return RunStep.model_validate({**said, **held, "usage": usage})


def _made_dataset(store: Store, steps: Mapping[str, RunStep]) -> RunDataset | None:
    """The dataset version that the run made; its tag and revision are given when it is adopted."""
    for reference in [step.product for step in steps.values() if step.product]:
        manifest = get_json(store, reference)
        if manifest.get("schema") == DATASET:
            return RunDataset(reference=reference, name=str(manifest["name"]), digest=str(manifest["digest"]))
    return None


def _sum(entries: Iterable[LedgerEntry], sheet: PriceSheet) -> Decimal:
    return sum((cost(entry, sheet) for entry in entries), Decimal(0))
