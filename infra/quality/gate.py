"""Runs one committed suite of expectations over one table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality.examples import example_rows
from zoetrope.infra.quality.pages import render_page

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
        failures: one dict per failed expectation: {expectation, column, settings, observed, unexpected_count,
            examples (up to three rows)}.
    """

    name: str
    success: bool
    statistics: dict[str, float]
    docs: str
    failures: list[dict[str, Any]]

    def summary(self) -> dict[str, Any]:
        """What a product's manifest keeps of the gate: no place, so that it says the same everywhere."""
        return {"name": self.name, "success": self.success, "statistics": dict(self.statistics)}

    def as_dict(self) -> dict[str, Any]:
        """The form that a step result carries: JSON values only."""
        return asdict(self)

    def require(self) -> None:
        """Raises ZoetropeError with the failing expectations, their columns and three example rows each."""
        if self.success:
            return
        lines = []
        for failure in self.failures:
            where = f"column {failure['column']!r}" if failure["column"] else "the table"
            count = f", {failure['unexpected_count']} rows" if failure["unexpected_count"] else ""
            seen = f", seen {failure['observed']!r}" if failure["observed"] is not None else ""
            settings = json.dumps(failure["settings"], sort_keys=True)
            lines.append(f"{failure['expectation']} of {where} {settings}{count}{seen}")
            lines += [f"  e.g. {json.dumps(row, ensure_ascii=False)}" for row in failure["examples"]]
        listing = "\n     ".join(lines)
        raise ZoetropeError(
            f"data gate {self.name!r} is red: {len(self.failures)} of "
            f"{self.statistics['evaluated']:.0f} expectations fail",
            f"{listing}\n  -> Data Docs: {self.docs}",
        )


def run_gate(name: str, frame: pandas.DataFrame, suite: Path, docs_prefix: str, store: Store) -> GateResult:
    """Checks a table against a suite of expectations and keeps a page about it (its Data Docs).

    The page says when it was checked; nothing else of the result depends on the time.

    Args:
        name: of the gate; letters, digits, `_` and `-`.
        frame: the whole table; a column that identifies a row should stand first (it is shown in examples).
        suite: JSON file {name, expectations: [{type, kwargs}]}.
        docs_prefix: the page goes to `docs/<docs_prefix>/index.html`; use the digest of what is checked.
        store: where the page goes.

    Raises:
        ZoetropeError: the suite file has the wrong form.
    """
    validation = _validate(name, frame, _read_suite(suite))
    page = render_page(name, validation, datetime.now(UTC))
    docs = store.put_bytes(f"docs/{docs_prefix}/index.html", page.encode())
    result = validation.to_json_dict()
    failures = [_failure(outcome, frame) for outcome in result["results"] if not outcome["success"]]
    statistics = result["statistics"]
    return GateResult(
        name=name,
        success=bool(result["success"]),
        statistics={
            "evaluated": float(statistics["evaluated_expectations"]),
            "successful": float(statistics["successful_expectations"]),
            "unsuccessful": float(statistics["unsuccessful_expectations"]),
            "success_percent": float(statistics["success_percent"] or 0.0),
        },
        docs=docs,
        failures=failures,
    )


def _read_suite(suite: Path) -> list[dict[str, Any]]:
    try:
        expectations: list[dict[str, Any]] = json.loads(suite.read_text(encoding="utf-8"))["expectations"]
        # GX 1.24 cannot serialise the result of the quantile expectation with current numpy.
        if not expectations or any("quantile" in item["type"] for item in expectations):
            raise ValueError("no expectations, or one on quantiles")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZoetropeError(
            f"suite {suite.name}: {error}", "write {name, expectations: [{type, kwargs}, ...]}"
        ) from error
    return expectations


def _validate(name: str, frame: pandas.DataFrame, expectations: list[dict[str, Any]]) -> Any:
    """Runs the checkpoint in a context that lives in memory."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        analytics_enabled=False,
        data_docs_sites={},
        progress_bars=ProgressBarsConfig(globally=False),
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=name, validation_definitions=[definition], result_format={"result_format": "SUMMARY"})
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": frame})
    return next(iter(outcome.run_results.values()))


def _failure(outcome: dict[str, Any], frame: pandas.DataFrame) -> dict[str, Any]:
    """What a person needs to know of a failed expectation."""
    configuration = outcome["expectation_config"]
    settings = {key: value for key, value in configuration["kwargs"].items() if key != "batch_id"}
    result = outcome.get("result") or {}
    observed = result.get("observed_value")
    raised = [
        item["exception_message"]
        for item in (outcome.get("exception_info") or {}).values()
        if isinstance(item, dict) and item.get("raised_exception")
    ]
    return {
        "expectation": configuration["type"],
        "column": settings.pop("column", "") or ", ".join(settings.get("column_list", [])),
        "settings": settings,
        "observed": sorted(raised)[0] if raised else observed,
        "unexpected_count": int(result.get("unexpected_count") or 0),
        "examples": example_rows(configuration["type"], configuration["kwargs"], frame),
    }
