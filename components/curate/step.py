"""The step: `sources.parquet` in, `clips.parquet` and the funnel out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.curate.clips_table import clips_table
from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.measuring import measure
from zoetrope.components.curate.page import curate_page
from zoetrope.components.curate.thresholds import apply_thresholds, funnel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import run_gate
from zoetrope.infra.references import Reference
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import get_json, get_table, put_json, put_table

if TYPE_CHECKING:
    import pyarrow

SUITE = Path(__file__).with_name("suite.json")


def curate(config: CurateConfig, sources: str, context: StepContext) -> StepResult:
    """Measures every usable source, unless that was done before, and applies the thresholds to what was measured.

    Args:
        config: shot detector, settings of the scores, thresholds.
        sources: reference of a product `zoetrope.sources.v1`.
        context: store, scratch folder, progress.

    Returns:
        product `zoetrope.clips.v1`; `clips.parquet` holds every shot, kept or not, with its scores and decisions.

    Raises:
        ZoetropeError: no source can be decoded, or no clip is kept.
    """
    clips, damaged = measured_clips(config, sources, context)
    return _result(apply_thresholds(clips, config.filters), config, damaged, sources, context)


def measured_clips(
    config: CurateConfig, sources: str, context: StepContext
) -> tuple[pyarrow.Table, list[dict[str, str]]]:
    """`clips.parquet` without decisions, and the sources that cannot be decoded to their end as {name, reason}.

    Raises:
        ZoetropeError: none of the sources can be decoded.
    """
    table = get_table(context.store, get_json(context.store, sources)["table"])
    usable = [row for row in table.to_pylist() if row["status"] == "usable"]
    measured = measure(config, [row["video"] for row in usable], context)
    problems = measured.problems()
    reasons = [problems.get(Reference.parse(row["video"]).digest, "") for row in usable]
    whole = [row for row, reason in zip(usable, reasons, strict=True) if not reason]
    damaged = [{"name": row["name"], "reason": reason} for row, reason in zip(usable, reasons, strict=True) if reason]
    if not whole:
        names = "; ".join(f"{item['name']}: {item['reason']}" for item in damaged[:10])
        raise ZoetropeError("curate: none of the sources can be decoded", names or "the sources product is empty")
    return clips_table(whole, measured, config.filters), damaged


def _result(
    clips: pyarrow.Table, config: CurateConfig, damaged: list[dict[str, str]], sources: str, context: StepContext
) -> StepResult:
    story: dict[str, Any] = funnel(clips, config.filters)
    kept = story["kept"]["clips"]
    if not kept:
        firsts = ", ".join(f"{item['name']} {item['first_kill']['clips']}" for item in story["filters"])
        raise ZoetropeError(
            f"curate: none of {clips.num_rows} clips passes the filters",
            f"clips dropped first by: {firsts}; loosen thresholds in the recipe under curate.filters",
        )
    reference = put_table(context.store, clips)
    gate = run_gate("clips", gate_frame(clips), SUITE, f"clips/{reference.digest[:16]}", context.store)
    gate.require()
    product = put_json(
        context.store,
        {
            "schema": "zoetrope.clips.v1",
            "table": str(reference),
            "funnel": str(put_json(context.store, story)),
            "counts": {"shots": clips.num_rows, "kept": kept},
            "sources": sources,
            "damaged": damaged,
            "gates": [gate.summary()],
        },
    )
    metrics = {f"dropped_by_{item['name']}": float(item["first_kill"]["clips"]) for item in story["filters"]}
    return StepResult(
        product=product,
        key_figure=f"{kept} of {clips.num_rows} clips kept",
        metrics={
            "shots": float(clips.num_rows),
            "clips_kept": float(kept),
            "seconds_kept": story["kept"]["seconds"],
            **metrics,
        },
        parameters=_parameters(config.filters.model_dump()),
        artifacts={"clips": reference},
        gates=[gate.as_dict()],
        page=curate_page(story, gate.docs, damaged),
    )


def _parameters(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `motion.minimum` -> value."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _parameters(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def gate_frame(clips: pyarrow.Table) -> Any:
    """Clips as a data frame for the gate, with one more column: why a clip was dropped, as text."""
    frame = clips.to_pandas()
    frame["dropped_by"] = [", ".join(names) for names in frame["dropped_by"]]
    return frame
