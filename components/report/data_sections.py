"""What the report says about the data: funnel, filters, gates and rejected inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoetrope.components.report.records import StepRecord, by_step
from zoetrope.infra.links import safe_link
from zoetrope.infra.store import Store, get_json

MAXIMUM_REJECTED = 100


@dataclass(frozen=True)
class FunnelBar:
    """One bar of the funnel.

    Attributes:
        label: what is counted.
        count: how many are left here.
        share: of the first bar with the same unit, 0 to 1.
        unit: `files` or `clips`.
    """

    label: str
    count: int
    share: float
    unit: str


@dataclass(frozen=True)
class FilterRow:
    """One filter of the curation; clips are counted in the order in which the filters are asked.

    Attributes:
        name: name of the filter.
        clips_in: clips that reach it.
        rejected: of these, how many it rejects.
        alone: clips that no other filter rejects.
        clips_out: clips that are left.
        minutes_out: their length.
        share: of all clips that are left, 0 to 1.
    """

    name: str
    clips_in: int
    rejected: int
    alone: int
    clips_out: int
    minutes_out: float
    share: float


@dataclass(frozen=True)
class Gate:
    """One data gate.

    Attributes:
        step: title of the step that ran it.
        name: name of the gate.
        success: whether all expectations hold.
        evaluated: number of expectations.
        failures: the expectations that failed, as text.
        docs: link to the Data Docs; empty where a browser cannot follow it.
        docs_text: the URI as text.
    """

    step: str
    name: str
    success: bool
    evaluated: int
    failures: tuple[str, ...]
    docs: str
    docs_text: str


@dataclass(frozen=True)
class DataSections:
    """Everything about the data."""

    funnel: tuple[FunnelBar, ...] = ()
    filters: tuple[FilterRow, ...] = ()
    gates: tuple[Gate, ...] = ()
    rejected: tuple[Mapping[str, str], ...] = ()
    rejected_total: int = 0
    reasons: tuple[tuple[str, int], ...] = field(default=())


def data_sections(store: Store, records: Sequence[StepRecord]) -> DataSections:
    """Collects the data's part of the report; what did not run is left out.

    Args:
        store: where the products lie.
        records: the run's records.
    """
    steps = by_step(records)
    rejected = list(steps["ingest"].product.get("rejected", ())) if "ingest" in steps else []
    rejected += list(steps["curate"].product.get("damaged", ())) if "curate" in steps else []
    counts: dict[str, int] = {}
    for entry in rejected:
        reason = str(entry.get("reason", "")).split(":")[0]
        counts[reason] = counts.get(reason, 0) + 1
    return DataSections(
        funnel=_funnel(steps),
        filters=_filters(store, steps),
        gates=tuple(_gate(record.title, gate) for record in records for gate in record.data.get("gates") or ()),
        rejected=tuple(rejected[:MAXIMUM_REJECTED]),
        rejected_total=len(rejected),
        reasons=tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _funnel(steps: Mapping[str, StepRecord]) -> tuple[FunnelBar, ...]:
    stages = (
        ("ingest", "files", "files found", "files"),
        ("ingest", "usable", "usable videos", "files"),
        ("curate", "shots", "shots cut", "clips"),
        ("curate", "kept", "pass every filter", "clips"),
        ("caption", "captioned", "with a caption", "clips"),
        ("encode", "clips", "in the dataset", "clips"),
        ("encode", "held_out", "of these held out", "clips"),
    )
    bars: list[FunnelBar] = []
    tops: dict[str, int] = {}
    for step, key, label, unit in stages:
        count = steps[step].product.get("counts", {}).get(key) if step in steps else None
        if count is not None:
            top = tops.setdefault(unit, int(count))
            bars.append(FunnelBar(label, int(count), int(count) / top if top else 0.0, unit))
    return tuple(bars)


def _filters(store: Store, steps: Mapping[str, StepRecord]) -> tuple[FilterRow, ...]:
    """The filters that were switched on, from the funnel that `curate` wrote."""
    reference = steps["curate"].product.get("funnel") if "curate" in steps else None
    if not reference:
        return ()
    funnel = get_json(store, reference)
    total = max(1, funnel["total"]["clips"])
    return tuple(
        FilterRow(
            name=row["name"],
            clips_in=row["in"]["clips"],
            rejected=row["first_kill"]["clips"],
            alone=row["sole_kill"]["clips"],
            clips_out=row["out"]["clips"],
            minutes_out=row["out"]["seconds"] / 60,
            share=row["out"]["clips"] / total,
        )
        for row in funnel["filters"]
        if row["enabled"]
    )


def _gate(step: str, gate: Mapping[str, Any]) -> Gate:
    failures = []
    for failure in gate.get("failures") or ():
        if isinstance(failure, Mapping):
            column = failure.get("column") or "the table"
            count = failure.get("unexpected_count")
            failures.append(f"{failure.get('expectation')} on {column}" + (f": {count} rows" if count else ""))
        else:
            failures.append(str(failure))
    docs = str(gate.get("docs") or "")
    statistics = gate.get("statistics") or {}
    return Gate(
        step=step,
        name=str(gate.get("name", "")),
        success=bool(gate.get("success")),
        evaluated=int(statistics.get("evaluated", statistics.get("evaluated_expectations", 0)) or 0),
        failures=tuple(failures),
        docs=safe_link(docs),
        docs_text=docs,
    )
