"""What the report says about the run: the promotion, its cost and where everything came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from zoetrope.components.report.config import ReportConfig
from zoetrope.components.report.formatting import number
from zoetrope.components.report.records import StepRecord, by_step, last_of
from zoetrope.infra.links import safe_link
from zoetrope.infra.redact import redacted

CHECKPOINT = "zoetrope.checkpoint.v1"


@dataclass(frozen=True)
class PromotionOutcome:
    """Whether the run gave a champion: `promoted`, `candidate`, or `none` when nothing was registered."""

    state: str
    title: str
    reason: str
    checks: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class CostRow:
    """One step in the table of costs; `share` is of the dearest step, 0 to 1."""

    title: str
    key_figure: str
    seconds: float | None
    allocation: str
    cpu_seconds: float | None
    peak_memory: float | None
    attempt: int
    cost: Decimal | None
    share: float
    reused: bool
    run_id: str


@dataclass(frozen=True)
class Cost:
    """The table of costs and its sums: what this run paid, and what the results cost when they were made."""

    rows: tuple[CostRow, ...]
    paid: Decimal
    whole: Decimal
    seconds: float
    reused: int
    sheets: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One line of the lineage: a name, a value, and a link where a browser can follow it."""

    name: str
    value: str
    link: str = ""
    code: bool = False


def promotion_outcome(records: Sequence[StepRecord]) -> PromotionOutcome:
    """The outcome of `promote`, or from what is missing."""
    steps = by_step(records)
    failed = [g for record in records for g in record.data.get("gates") or () if not g.get("success")]
    if "promote" not in steps:
        if failed:
            reason = f"The data gate {failed[0].get('name', '')} is red, so the run stopped there."
        elif last_of(records, CHECKPOINT) is not None:
            reason = "The run ended before a model was promoted."
        else:
            reason = "No model was trained in this run."
        return PromotionOutcome("none", "No model promoted", reason, ())
    product = steps["promote"].product
    checks = tuple(product.get("checks", ()))
    model = f"{product.get('model', '')} version {product.get('version', '')}"
    if product.get("promoted"):
        previous = product.get("previous")
        reason = f"{model} passed every check" + (f" and follows version {previous}." if previous else ".")
        return PromotionOutcome("promoted", "Promoted to champion", reason, checks)
    missed = [f"{check.get('name')}: {check.get('detail')}" for check in checks if not check.get("passed")]
    reason = f"{model} stays a candidate. " + "; ".join(missed)
    return PromotionOutcome("candidate", "Not promoted", reason, checks)


def cost(records: Sequence[StepRecord]) -> Cost:
    """The table of costs."""
    dearest = max((record.cost or Decimal(0) for record in records), default=Decimal(0))
    rows = tuple(_cost_row(record, dearest) for record in records)
    return Cost(
        rows=rows,
        paid=sum((row.cost or Decimal(0) for row in rows if not row.reused), Decimal(0)),
        whole=sum((row.cost or Decimal(0) for row in rows), Decimal(0)),
        seconds=sum(row.seconds or 0.0 for row in rows if not row.reused),
        reused=sum(row.reused for row in rows),
        sheets=tuple(sorted({str(r.data["price_sheet"]) for r in records if r.data.get("price_sheet")})),
    )


def _cost_row(record: StepRecord, dearest: Decimal) -> CostRow:
    resources, usage = record.mapping("resources"), record.mapping("usage")
    parts = [f"{number(resources['cpu'])} CPU"] if resources.get("cpu") else []
    parts += [f"{number(resources['memory_gb'])} GB"] if resources.get("memory_gb") else []
    parts += [f"{resources['gpus']} x {resources.get('gpu_kind') or 'GPU'}"] if resources.get("gpus") else []
    return CostRow(
        title=record.title,
        key_figure=str(record.data.get("key_figure") or ""),
        seconds=record.data.get("seconds"),
        allocation=", ".join(parts),
        cpu_seconds=usage.get("cpu_seconds"),
        peak_memory=usage.get("peak_memory_bytes"),
        attempt=int(record.data.get("attempt") or 1),
        cost=record.cost,
        share=float((record.cost or Decimal(0)) / dearest) if dearest else 0.0,
        reused=record.reused,
        run_id=str(record.data.get("run_id") or ""),
    )


def lineage(config: ReportConfig, records: Sequence[StepRecord]) -> tuple[Fact, ...]:
    """Where code, settings, data and model of this run came from; unknown facts are left out."""
    steps = by_step(records)
    dataset = steps["encode"].product if "encode" in steps else {}
    trained = last_of(records, CHECKPOINT)
    promotion = steps["promote"].product if "promote" in steps else {}
    state = {True: " (working tree changed)", False: "", None: ""}[config.dirty]
    sheets = ", ".join(sorted({str(r.data["price_sheet"]) for r in records if r.data.get("price_sheet")}))
    facts = (
        Fact("Run", config.run_id, code=True),
        Fact("Recipe", config.recipe),
        Fact("Recipe hash", config.recipe_hash, code=True),
        Fact("Code commit", config.commit + state if config.commit else "", code=True),
        Fact("Dataset", config.dataset_tag or str(dataset.get("name", ""))),
        Fact("Dataset digest", str(dataset.get("digest", "")), code=True),
        Fact("Dataset revision", config.dataset_revision, code=True),
        Fact("Licence of the data", str(dataset.get("licence", ""))),
        Fact("Rights", str(dataset.get("rights", ""))),
        Fact("Checkpoint digest", trained.product_digest if trained else "", code=True),
        Fact("Model version", _model_version(promotion)),
        Fact("Price sheet", sheets),
    )
    return tuple(fact for fact in facts if fact.value)


def _model_version(promotion: Mapping[str, Any]) -> str:
    if not promotion.get("version"):
        return ""
    aliases = ", ".join(str(alias) for alias in promotion.get("aliases", ()))
    return f"{promotion.get('model', '')} version {promotion['version']}" + (f" ({aliases})" if aliases else "")


def links(config: ReportConfig, records: Sequence[StepRecord]) -> tuple[Fact, ...]:
    """How to open MLflow and the registry."""
    facts = []
    uri = redacted(config.tracking_uri)
    if uri.startswith(("http://", "https://")):
        facts.append(Fact("MLflow", uri, link=safe_link(uri)))
    elif uri:
        facts.append(Fact("MLflow", f"mlflow ui --backend-store-uri {uri}", code=True))
    if uri and config.experiment:
        facts.append(Fact("Experiment", config.experiment))
    if config.mlflow_run_id:
        facts.append(Fact("MLflow run", config.mlflow_run_id, code=True))
    if config.registry_command and "promote" in by_step(records):
        facts.append(Fact("Model registry", config.registry_command, code=True))
    promotion = by_step(records)["promote"].product if "promote" in by_step(records) else {}
    if promotion.get("promoted"):
        command = f'zoetrope generate --checkpoint models:/{promotion["model"]}@champion --prompt "..."'
        facts.append(Fact("Generate with it", command, code=True))
    return tuple(facts)
