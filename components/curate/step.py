"""The step: `sources.parquet` in, `clips.parquet` and the funnel out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.page import curate_page
from zoetrope.components.curate.shots import CutTask, cut_source
from zoetrope.components.curate.thresholds import apply_thresholds, funnel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import run_gate
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import get_json, get_table, put_json, put_table
from zoetrope.infra.workers import map_units

if TYPE_CHECKING:
    import pyarrow

SUITE = Path(__file__).with_name("suite.json")


def curate(config: CurateConfig, sources: str, context: StepContext) -> StepResult:
    """Cuts every usable source into shots, scores them in one decode pass and applies the thresholds.

    Args:
        config: shot detector and thresholds.
        sources: reference of a product `zoetrope.sources.v1`.
        context: store, scratch folder, progress.

    Returns:
        product `zoetrope.clips.v1`; `clips.parquet` holds every shot, kept or not, with its scores and decisions.

    Raises:
        ZoetropeError: no source can be decoded, or no clip is kept.
    """
    manifest = get_json(context.store, sources)
    table = get_table(context.store, manifest["table"])
    usable = [row for row in table.to_pylist() if row["status"] == "usable"]
    tasks = [CutTask(row["source_id"], row["video"], config.max_seconds, config.cuts) for row in usable]
    rows: list[dict[str, Any]] = []
    damaged: list[dict[str, str]] = []
    outcomes = map_units(cut_source, tasks, context, config.workers, "sources cut")
    for source, outcome in zip(usable, outcomes, strict=True):
        rows += outcome.rows
        if outcome.problem:
            damaged.append({"name": source["name"], "reason": outcome.problem})
    if not rows:
        names = "; ".join(f"{item['name']}: {item['reason']}" for item in damaged[:10])
        raise ZoetropeError("curate: none of the sources can be decoded", names or "the sources product is empty")
    clips = apply_thresholds(clips_table(sorted(rows, key=lambda row: row["clip_id"])), config.filters)
    return _result(clips, config, damaged, sources, context)


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
        parameters={
            f"{name}.{key}": value
            for name, settings in config.filters.table().items()
            for key, value in settings.model_dump().items()
        },
        artifacts={"clips": reference},
        gates=[gate.as_dict()],
        page=curate_page(story, gate.docs, damaged),
    )


def clips_table(rows: list[dict[str, Any]]) -> pyarrow.Table:
    """`clips.parquet` without decisions, in the order of the rows."""
    import pyarrow

    text, integer, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    scores = [column for filter_ in FilterSettings().table().values() for column in filter_.columns]
    schema = pyarrow.schema(
        {
            "clip_id": text,
            "source_id": text,
            "video": text,
            "start": text,
            "end": text,
            "seconds": real,
            "start_pts": integer,
            "end_pts": integer,
            "time_base": text,
            "frames": integer,
            "fps": real,
            "width": integer,
            "height": integer,
            "crop_x": integer,
            "crop_y": integer,
            "crop_width": integer,
            "crop_height": integer,
            **dict.fromkeys(scores, real),
            "perceptual_hash": text,
        }
    )
    return pyarrow.Table.from_pylist(rows, schema)


def gate_frame(clips: pyarrow.Table) -> Any:
    """Clips as a data frame for the gate, with one more column: why a clip was dropped, as text."""
    frame = clips.to_pandas()
    frame["dropped_by"] = [", ".join(names) for names in frame["dropped_by"]]
    return frame
