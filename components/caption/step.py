"""The step: kept clips in, `captions.parquet` out."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from zoetrope.components.caption.batches import batches, caption_batch
from zoetrope.components.caption.config import CaptionConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import get_json, get_table, put_json, put_table
from zoetrope.infra.workers import map_units

EXAMPLES = 8


def caption(config: CaptionConfig, clips: str, sources: str, context: StepContext) -> StepResult:
    """Gives every kept clip the caption of its source that overlaps it most, and a split.

    Args:
        config: suffix, size of the held-out split, workers.
        clips: reference of a product `zoetrope.clips.v1`.
        sources: reference of the product `zoetrope.sources.v1` that the clips were cut from.
        context: store.

    Returns:
        product `zoetrope.captions.v1`; clips without a caption are left out and counted.

    Raises:
        ZoetropeError: no clip has a caption, or none is left to train on.
    """
    manifest = get_json(context.store, clips)
    source_table = get_table(context.store, get_json(context.store, sources)["table"])
    by_source = {
        row["source_id"]: json.loads(row["captions"])
        for row in source_table.select(["source_id", "status", "captions"]).to_pylist()
        if row["status"] == "usable"
    }
    kept = [row for row in get_table(context.store, manifest["table"]).to_pylist() if row["kept"]]
    units = list(batches(config, kept, by_source))
    answers = map_units(caption_batch, units, context, config.workers, "batches of clips captioned", inline=True)
    rows = [row for answer in answers for row in answer]
    _require_captions(rows, kept)
    return _result(sorted(rows, key=lambda row: row["clip_id"]), kept, clips, context)


def _require_captions(rows: list[dict[str, str]], kept: list[dict[str, Any]]) -> None:
    if not rows:
        raise ZoetropeError(
            f"caption: none of {len(kept)} kept clips has a caption",
            "give the source a catalogue.csv, .parquet or .jsonl with path,text[,start,end,attributes] whose times "
            "overlap the clips, or a text file NAME.txt beside each video NAME.mp4",
        )
    if not any(row["split"] == "train" for row in rows):
        raise ZoetropeError(
            f"caption: all {len(rows)} clips with captions are held out, none is left to train on",
            "give more videos or set caption.held_out_fraction to 0",
        )


def _result(rows: list[dict[str, str]], kept: list[dict[str, Any]], clips: str, context: StepContext) -> StepResult:
    import pyarrow

    columns = ("clip_id", "caption", "caption_source", "attributes", "split")
    schema = pyarrow.schema(dict.fromkeys(columns, pyarrow.string()))
    table = put_table(context.store, pyarrow.Table.from_pylist(rows, schema))
    held_out = sum(row["split"] == "held_out" for row in rows)
    counts = {"captioned": len(rows), "without": len(kept) - len(rows), "held_out": held_out}
    product = put_json(
        context.store,
        {"schema": "zoetrope.captions.v1", "table": str(table), "clips": clips, "counts": counts},
    )
    words = [len(row["caption"].split()) for row in rows]
    return StepResult(
        product=product,
        key_figure=f"{len(rows)} captions, {held_out} held out",
        metrics={
            **{f"clips_{name}": float(count) for name, count in counts.items()},
            "words_mean": sum(words) / len(words),
        },
        artifacts={"captions": table},
        page=_page(rows, counts),
    )


def _page(rows: list[dict[str, str]], counts: dict[str, int]) -> str:
    examples = "".join(
        f"<tr><td><code>{row['clip_id'][:12]}</code></td><td>{escape(row['caption'])}</td><td>{row['split']}</td></tr>"
        for row in rows[:EXAMPLES]
    )
    return (
        f"<section><h3>Captions</h3><p>{counts['captioned']} clips with a caption, {counts['held_out']} of them held "
        f"out, {counts['without']} left out without one.</p><table><thead><tr><th>clip</th><th>caption</th>"
        f"<th>split</th></tr></thead><tbody>{examples}</tbody></table></section>"
    )
