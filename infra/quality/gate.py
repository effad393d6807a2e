"""Runs one committed suite of expectations over one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from zoetrope.infra.store import Store


@dataclass(frozen=True)
class GateResult:
    """What a gate says.

    Attributes:
        name: name of the gate, e.g. `sources`.
        success: whether every expectation holds.
        statistics: {evaluated, successful, unsuccessful, success_percent}.
        docs: URI of the Data Docs page.
        failures: one dict per failed expectation: {expectation, column, observed, unexpected_count, examples}.
    """

    name: str
    success: bool
    statistics: dict[str, float]
    docs: str
    failures: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """The form that a step result carries."""
        raise NotImplementedError

    def require(self) -> None:
        """Raises ZoetropeError with the failing expectation, the column and three example rows."""
        raise NotImplementedError


def run_gate(name: str, frame: pandas.DataFrame, suite: Path, docs_prefix: str, store: Store) -> GateResult:
    """Checks `frame` against the suite file and stores the Data Docs below `docs/<docs_prefix>/`."""
    raise NotImplementedError
