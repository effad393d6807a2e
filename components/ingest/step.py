"""The step: a source in, `sources.parquet` and the bytes of every usable video out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoetrope.components.ingest.captions import HOW_TO_CAPTION, Caption, read_catalogue
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.footage import FootageConfig
from zoetrope.components.ingest.footage.plan import held_out_prompts, plan_footage
from zoetrope.components.ingest.footage.render import catalogue
from zoetrope.components.ingest.inspection import (
    Inspection,
    RenderTask,
    file_batches,
    inspect_files,
    render_and_inspect,
)
from zoetrope.components.ingest.listing import VIDEO_SUFFIXES
from zoetrope.components.ingest.page import ingest_page
from zoetrope.components.ingest.probe import ProbeResult, is_video
from zoetrope.components.ingest.sources import OpenSource, open_source
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import run_gate
from zoetrope.infra.references import canonical_json
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import put_json, put_table
from zoetrope.infra.workers import map_units

if TYPE_CHECKING:
    import pyarrow

SUITE = Path(__file__).with_name("suite.json")
LISTED = 10


def ingest(config: IngestConfig, source: SourceConfig, context: StepContext) -> StepResult:
    """Looks at every file of a source and stores the usable ones under the digest of their bytes.

    Args:
        config: the raw gates.
        source: where the videos are and on what terms.
        context: store, scratch folder, progress.

    Returns:
        product `zoetrope.sources.v1`; one row a file in `sources.parquet`, rejected ones with their reason.

    Raises:
        ZoetropeError: nothing is usable, nothing has a caption, or the catalogue cannot be read.
    """
    found = _samples(config, source.samples, context) if source.samples is not None else _files(config, source, context)
    rows: list[dict[str, Any]] = []
    first: dict[str, dict[str, Any]] = {}
    for key, name, inspection in found.files:
        row = _row(name, inspection, found.captions.get(key, []), source.licence, config.identity)
        # A rejected file has no duplicates: the same frames may pass in another container.
        original = first.setdefault(row["source_id"], row) if row["status"] == "usable" else row
        if original is not row:
            reason = f"duplicate: same {config.identity} as {original['name']}"
            row |= {"status": "rejected", "reason": reason, "video": ""}
            row["duplicate_of"] = row["source_id"]
            original["captions"] = original["captions"] or row["captions"]
        rows.append(row)
    usable = [row for row in rows if row["status"] == "usable"]
    if not usable:
        raise _nothing_usable(rows, found.place)
    if not any(row["captions"] for row in usable):
        raise ZoetropeError(f"no usable video of {found.place} has a caption", HOW_TO_CAPTION)
    return _result(rows, found.prompts, source, context)


@dataclass(frozen=True)
class _Found:
    """A source whose files were inspected.

    Attributes:
        files: (key, name that is safe to print, what was found) in the order of the table.
        captions: by key.
        prompts: for generation, that come with the source; None where there are none.
        place: how messages name the source.
    """

    files: list[tuple[str, str, Inspection]]
    captions: dict[str, list[Caption]]
    prompts: list[Any] | None
    place: str


def _samples(config: IngestConfig, footage: FootageConfig, context: StepContext) -> _Found:
    """Sample footage: every film is rendered and inspected by one worker."""
    plan = plan_footage(footage)
    render_tasks = [RenderTask(config, film, list(plan.copies_of(film)), footage.size) for film in plan.films]
    batches = map_units(render_and_inspect, render_tasks, context, config.workers, "films")
    made = [each for batch in batches for each in batch]
    by_name = {each.entry["path"]: each for each in made}
    data = catalogue([by_name[name].entry for name in plan.names])
    captions = read_catalogue(lambda name: data if name == "catalogue.parquet" else None, "sample")
    files = [(name, name, by_name[name].inspection) for name in sorted(by_name)]
    return _Found(files, captions, held_out_prompts(footage), "samples")


def _files(config: IngestConfig, source: SourceConfig, context: StepContext) -> _Found:
    """A folder or an object store: files are inspected in batches."""
    opened = open_source(source)
    captions = opened.captions()
    _refuse_without_captions(opened, captions)
    readable = [entry for entry in opened.entries if not entry.problem]
    batches = list(file_batches(config, opened.root, readable))
    answers = map_units(inspect_files, batches, context, config.workers, "batches of files")
    inspection = (each for answer in answers for each in answer)
    files = []
    for entry in (*opened.entries, *opened.missing()):
        known = Inspection(ProbeResult(entry.problem), entry.problem, "") if entry.problem else next(inspection)
        files.append((entry.key, entry.name, known))
    return _Found(files, captions, opened.prompts(), opened.place)


def _refuse_without_captions(opened: OpenSource, captions: dict[str, list[Caption]]) -> None:
    """Says what to give before hours go into reading; silent where nothing is a video anyway."""
    if any(captions.values()):
        return
    for entry in opened.entries:
        if entry.problem:
            continue
        named = PurePosixPath(entry.key).suffix.lower() in VIDEO_SUFFIXES
        if named if entry.path is None else is_video(entry.path):
            raise ZoetropeError(f"{opened.place} has videos but no captions", HOW_TO_CAPTION)


def _row(name: str, inspection: Inspection, captions: list[Caption], licence: str, identity: str) -> dict[str, Any]:
    facts = inspection.facts
    return {
        "source_id": facts.frames_digest if identity == "frames" else facts.digest,
        "name": name,
        "status": "rejected" if inspection.reason else "usable",
        "reason": inspection.reason,
        "video": inspection.video,
        "bytes": facts.bytes,
        "duration_seconds": facts.duration,
        "width": facts.width,
        "height": facts.height,
        "fps": facts.fps,
        "frames": facts.frames,
        "variable_frame_rate": facts.variable_frame_rate,
        "codec": facts.codec,
        "profile": facts.profile,
        "bits_per_pixel": facts.bits_per_pixel,
        "captions": captions,
        "licence": licence,
        "duplicate_of": "",
    }


def _nothing_usable(rows: list[dict[str, Any]], place: str) -> ZoetropeError:
    lines = [f"{row['name']}: {row['reason']}" for row in rows[:LISTED]]
    if len(rows) > LISTED:
        lines.append(f"... and {len(rows) - LISTED} more")
    found = "\n     ".join(lines) or "the source holds no file"
    return ZoetropeError(
        f"nothing usable in {place}: {len(rows)} files, all rejected",
        f"{found}\n  -> give videos that pass the gates, or loosen them in the recipe under ingest",
    )


def _result(
    rows: list[dict[str, Any]], prompts: list[Any] | None, source: SourceConfig, context: StepContext
) -> StepResult:
    table = sources_table(rows)
    reference = put_table(context.store, table)
    gate = run_gate("sources", table.to_pandas(), SUITE, f"sources/{reference.digest[:16]}", context.store)
    gate.require()
    usable = sum(row["status"] == "usable" for row in rows)
    counts = {"files": len(rows), "usable": usable, "rejected": len(rows) - usable}
    product = put_json(
        context.store,
        {
            "schema": "zoetrope.sources.v1",
            "table": str(reference),
            "counts": counts,
            "rejected": [{"name": row["name"], "reason": row["reason"]} for row in rows if row["status"] == "rejected"],
            "prompts": "" if prompts is None else str(put_json(context.store, prompts)),
            "licence": source.licence,
            "rights": source.rights,
            "gates": [gate.summary()],
        },
    )
    seconds = sum(row["duration_seconds"] for row in rows if row["status"] == "usable")
    return StepResult(
        product=product,
        key_figure=f"{usable} of {len(rows)} files usable",
        metrics={**{f"files_{name}": float(count) for name, count in counts.items()}, "usable_seconds": seconds},
        parameters={"licence": source.licence},
        gates=[gate.as_dict()],
        page=ingest_page(rows, gate.docs),
    )


def sources_table(rows: list[dict[str, Any]]) -> pyarrow.Table:
    """`sources.parquet` in the order of the rows; captions become JSON text."""
    import pyarrow

    text, integer, real, flag = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    schema = pyarrow.schema(
        {
            "source_id": text,
            "name": text,
            "status": text,
            "reason": text,
            "video": text,
            "bytes": integer,
            "duration_seconds": real,
            "width": integer,
            "height": integer,
            "fps": real,
            "frames": integer,
            "variable_frame_rate": flag,
            "codec": text,
            "profile": text,
            "bits_per_pixel": real,
            "captions": text,
            "licence": text,
            "duplicate_of": text,
        }
    )
    encoded = [{**row, "captions": canonical_json(row["captions"]).decode()} for row in rows]
    return pyarrow.Table.from_pylist(encoded, schema)
