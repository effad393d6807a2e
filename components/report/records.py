"""The records of a run's steps, as the report reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_json

SCHEMA = "zoetrope.record.v1"
# The order in which the report tells the story; other steps follow by name.
ORDER = (
    "ingest",
    "curate",
    "caption",
    "autoencoder",
    "encode",
    "stage_1",
    "stage_2",
    "stage_3",
    "generate",
    "evaluate",
    "promote",
)
TITLES = {
    "ingest": "Ingest",
    "curate": "Curate",
    "caption": "Caption",
    "autoencoder": "Autoencoder",
    "encode": "Encode",
    "stage_1": "Stage 1",
    "stage_2": "Stage 2",
    "stage_3": "Stage 3",
    "generate": "Generate",
    "evaluate": "Evaluate",
    "promote": "Promote",
}


def title_of(step: str) -> str:
    """The name of a step for people."""
    return TITLES.get(step, step.replace("_", " ").capitalize())


@dataclass(frozen=True)
class StepRecord:
    """One execution of a step.

    Attributes:
        data: the record, `zoetrope.record.v1`.
        product: the step's manifest; empty when the record names none.
        reused: whether an earlier run made the result and nothing was computed in this one.
    """

    data: Mapping[str, Any]
    product: Mapping[str, Any]
    reused: bool

    @property
    def step(self) -> str:
        """Name of the step."""
        return str(self.data["step"])

    @property
    def title(self) -> str:
        """Name of the step for people."""
        return title_of(self.step)

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


def load_records(store: Store, references: Iterable[str], run_id: str) -> list[StepRecord]:
    """Reads the records and their products.

    Args:
        store: where they lie.
        references: reference strings of records, in any order.
        run_id: the run that is reported; a record of another run counts as reused. Empty: nothing does.

    Returns:
        One record for each step, in the order of the pipeline.

    Raises:
        ZoetropeError: a reference names something else than a record.
    """
    found: dict[str, StepRecord] = {}
    for reference in references:
        data = get_json(store, reference)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or "step" not in data:
            raise ZoetropeError(f"report: {reference} is not a record of a step", "pass the steps' output `record`")
        product = get_json(store, data["product"]) if data.get("product") else {}
        reused = bool(run_id) and data.get("run_id") != run_id
        found[str(data["step"])] = StepRecord(data, product, reused)
    return sorted(found.values(), key=lambda record: _position(record.step))


def _position(step: str) -> tuple[int, str]:
    return (ORDER.index(step) if step in ORDER else len(ORDER), step)


def by_step(records: Sequence[StepRecord]) -> dict[str, StepRecord]:
    """Step name -> record."""
    return {record.step: record for record in records}
