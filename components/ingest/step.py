"""The step: a source in, `sources.parquet` and the bytes of every usable video out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoetrope.components.ingest.captions import HOW_TO_CAPTION, Caption
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.gates import raw_gate
from zoetrope.components.ingest.inspect import Facts, Request, inspect_file, looks_like_video
from zoetrope.components.ingest.listing import VIDEO_SUFFIXES, Entry
from zoetrope.components.ingest.page import ingest_page
from zoetrope.components.ingest.sources import OpenSource, open_source
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import run_gate
from zoetrope.infra.references import canonical_json
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import put_file_content, put_json, put_table
from zoetrope.infra.workers import map_in_processes

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
    opened = open_source(source, config.workers, context)
    captions = opened.captions()
    _refuse_without_captions(opened, captions)
    rows: list[dict[str, Any]] = []
    first: dict[str, dict[str, Any]] = {}
    for entry, facts in _inspected(config, opened, context):
        row = _row(entry, facts, config, captions.get(entry.key, []), source.licence)
        original = first.setdefault(facts.digest, row) if facts.digest else row
        if original is not row and row["status"] == "usable":
            row |= {"status": "rejected", "reason": f"duplicate: same bytes as {original['name']}"}
            row["duplicate_of"] = facts.digest
            original["captions"] = original["captions"] or row["captions"]
        if row["status"] == "usable":
            row["video"] = _store_video(entry, facts, context)
        if opened.root and entry.path is None:
            _scratch(context, entry).unlink(missing_ok=True)
        rows.append(row)
    rows += [_row(entry, Facts(entry.problem), config, [], source.licence) for entry in opened.missing()]
    usable = [row for row in rows if row["status"] == "usable"]
    if not usable:
        raise _nothing_usable(rows, opened.place)
    if not any(row["captions"] for row in usable):
        raise ZoetropeError(f"no usable video of {opened.place} has a caption", HOW_TO_CAPTION)
    return _result(rows, opened, source, context)


def _refuse_without_captions(opened: OpenSource, captions: dict[str, list[Caption]]) -> None:
    """Says what to give before hours go into reading; silent where nothing is a video anyway."""
    if any(captions.values()):
        return
    for entry in opened.entries:
        if entry.problem:
            continue
        named = PurePosixPath(entry.key).suffix.lower() in VIDEO_SUFFIXES
        if named if entry.path is None else looks_like_video(entry.path):
            raise ZoetropeError(f"{opened.place} has videos but no captions", HOW_TO_CAPTION)


def _inspected(config: IngestConfig, opened: OpenSource, context: StepContext) -> Iterator[tuple[Entry, Facts]]:
    """Entries in order with what is known of them; files are read in worker processes."""
    requests = [
        Request(entry.path or _scratch(context, entry), config.verify, opened.root, entry.uri)
        for entry in opened.entries
        if not entry.problem
    ]
    facts = map_in_processes(inspect_file, requests, config.workers)
    for number, entry in enumerate(opened.entries):
        yield entry, Facts(entry.problem) if entry.problem else next(facts)
        if number % 20 == 0:
            context.progress(f"looked at {entry.name}", number / len(opened.entries))


def _scratch(context: StepContext, entry: Entry) -> Path:
    """Where a file of an object store is put while it is looked at."""
    from zoetrope.infra.references import digest_bytes

    return context.work / "fetched" / digest_bytes(entry.uri.encode())


def _row(entry: Entry, facts: Facts, config: IngestConfig, captions: list[Caption], licence: str) -> dict[str, Any]:
    reason = facts.problem or raw_gate(facts, config)
    return {
        "source_id": facts.digest,
        "name": entry.name,
        "status": "rejected" if reason else "usable",
        "reason": reason,
        "video": "",
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


def _store_video(entry: Entry, facts: Facts, context: StepContext) -> str:
    suffix = PurePosixPath(entry.key).suffix.lower()
    path = entry.path or _scratch(context, entry)
    reference = put_file_content(context.store, path, suffix if suffix in VIDEO_SUFFIXES else "")
    if reference.digest != facts.digest:
        raise ZoetropeError(
            f"{entry.name} changed while it was read", "run again when nobody writes to it", retryable=True
        )
    return str(reference)


def _nothing_usable(rows: list[dict[str, Any]], place: str) -> ZoetropeError:
    lines = [f"{row['name']}: {row['reason']}" for row in rows[:LISTED]]
    if len(rows) > LISTED:
        lines.append(f"... and {len(rows) - LISTED} more")
    found = "\n     ".join(lines) or "the source holds no file"
    return ZoetropeError(
        f"nothing usable in {place}: {len(rows)} files, all rejected",
        f"{found}\n  -> give videos that pass the gates, or loosen them in the recipe under ingest",
    )


def _result(rows: list[dict[str, Any]], opened: OpenSource, source: SourceConfig, context: StepContext) -> StepResult:
    table = sources_table(rows)
    reference = put_table(context.store, table)
    gate = run_gate("sources", table.to_pandas(), SUITE, f"sources/{reference.digest[:16]}", context.store)
    gate.require()
    prompts = opened.prompts()
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
            "gates": [gate.verdict()],
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
