"""The records of a run's steps, as the report reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from zoetrope.components.report.config import ReportConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_json

SCHEMA = "zoetrope.record.v1"


@dataclass(frozen=True)
class StepRecord:
    """One execution of a step.

    Attributes:
        data: the record, `zoetrope.record.v1`.
        product: the step's manifest; empty when the record names none.
        reused: whether an earlier run made the result and nothing was computed in this one.
        title: name of the step for people.
    """

    data: Mapping[str, Any]
    product: Mapping[str, Any]
    reused: bool
    title: str

    @property
    def step(self) -> str:
        """Name of the step."""
        return str(self.data["step"])

    @property
    def cost(self) -> Decimal | None:
        """What the execution cost in US dollars, None where it is not known."""
        try:
            return Decimal(str(self.data["cost_usd"]))
        except (KeyError, InvalidOperation):
            return None

    @property
    def product_digest(self) -> str:
        """SHA-256 of the product, empty when there is none."""
        text = self.data.get("product") or ""
        return Reference.parse(text).digest if text else ""

    def mapping(self, key: str) -> dict[str, Any]:
        """A part of the record that is a mapping; empty where it is missing."""
        value = self.data.get(key)
        return dict(value) if isinstance(value, Mapping) else {}

    def metric(self, name: str) -> float | None:
        """One of the step's metrics."""
        value = self.mapping("metrics").get(name)
        return float(value) if isinstance(value, (int, float)) else None


def load_records(store: Store, references: Iterable[str], config: ReportConfig) -> list[StepRecord]:
    """Reads the records and their products.

    Args:
        store: where they lie.
        references: reference strings of records, in any order.
        config: names the run that is reported (a record of another run counts as reused; where it names none, nothing
            does), and the order and titles of the steps.

    Returns:
        One record for each step, in that order.

    Raises:
        ZoetropeError: a reference names something else than a record.
    """
    found: dict[str, StepRecord] = {}
    titles = {each.name: each.title for each in config.steps}
    order = {name: position for position, name in enumerate(titles)}
    for reference in references:
        data = get_json(store, reference)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or "step" not in data:
            raise ZoetropeError(f"report: {reference} is not a record of a step", "pass the steps' output `record`")
        product = get_json(store, data["product"]) if data.get("product") else {}
        reused = bool(config.run_id) and data.get("run_id") != config.run_id
        step = str(data["step"])
        found[step] = StepRecord(data, product, reused, titles.get(step, step))
    return sorted(found.values(), key=lambda record: (order.get(record.step, len(order)), record.step))


def last_of(records: Sequence[StepRecord], schema: str) -> StepRecord | None:
    """The last step that made a product of that schema."""
    return next((record for record in reversed(records) if record.product.get("schema") == schema), None)


def by_step(records: Sequence[StepRecord]) -> dict[str, StepRecord]:
    """Step name -> record."""
    return {record.step: record for record in records}
