"""The encode step: kept clips and their captions become a dataset version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.inputs import EncodeInputs, require_sizes, too_short
from zoetrope.components.encode.manifest import SCHEMA, bucket_entries, dataset_digest, index_table
from zoetrope.components.encode.merging import Merged, merge_units
from zoetrope.components.encode.page import render_page
from zoetrope.components.encode.tasks import EncodedUnit, EncodeUnit, encode_units, source_jobs
from zoetrope.components.encode.text import stored_encoders, text_section
from zoetrope.infra.datasets.layout import registry_files
from zoetrope.infra.quality import GateResult, run_gate
from zoetrope.infra.references import Reference, canonical_json
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import put_json, put_table
from zoetrope.infra.workers import WorkerContext, map_units
from zoetrope.model.data.shards import CHECKSUM, CHECKSUM_COLUMN

SUITE = Path(__file__).with_name("suite.json")


def encode(config: EncodeConfig, captions: str, autoencoder: str, context: StepContext) -> StepResult:
    """Encodes all kept clips with the trained autoencoder and their captions with the text encoders.

    Args:
        config: buckets, text encoders, shard size, workers.
        captions: reference of a `zoetrope.captions.v1` product.
        autoencoder: reference of a `zoetrope.autoencoder.v1` product.
        context: store, scratch folder, events.

    Returns:
        The `zoetrope.dataset.v1` product, which is a dataset version.

    Raises:
        ZoetropeError: the autoencoder does not take a bucket's size, no clip is long enough for a bucket or can be
            decoded, or the gate on the index is red.
    """
    inputs = EncodeInputs(context.store, captions, autoencoder)
    require_sizes(config, inputs.autoencoder)
    short = too_short(config, inputs.rows)
    t5, clip = stored_encoders(config.text, context.store)
    setup = str(put_json(context.store, _setup(config, inputs, t5, clip, context)))
    units = list(encode_units(config, setup, source_jobs(config, inputs.rows)))
    merged = merge_units(map_units(encode_unit, units, context, config.workers, "groups of clips encoded"))
    index = put_table(context.store, index_table(merged.rows))
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "name": config.name,
        "autoencoder": autoencoder,
        "text": text_section(config.text, merged.text),
        "buckets": bucket_entries(config, merged.shapes),
        "shards": merged.shards,
        "index": str(index),
        "index_bytes": context.store.size(index.uri),
        "checksum": CHECKSUM,
        "counts": _counts(merged, short),
        "licence": inputs.sources["licence"],
        "rights": inputs.sources["rights"],
        "funnel": inputs.clips["funnel"],
        "captions": captions,
        "prompts": inputs.sources["prompts"],
    }
    manifest["digest"] = dataset_digest(manifest, inputs.autoencoder)
    gate = _gate(manifest, merged, context)
    # a dataset version tells what it passed to whoever trains on it later; not part of its digest
    passed = [*inputs.sources.get("gates", []), *inputs.clips.get("gates", [])]
    manifest["gates"] = [*passed, gate.summary()]
    return _result(put_json(context.store, manifest), manifest, gate)


def encode_unit(unit: EncodeUnit, worker_context: WorkerContext) -> EncodedUnit:
    """Runs in a worker; the step's own process does without PyTorch."""
    from zoetrope.components.encode.worker import work

    return work(unit, worker_context)


def _setup(
    config: EncodeConfig, inputs: EncodeInputs, t5: dict[str, str], clip: dict[str, str], context: StepContext
) -> dict[str, Any]:
    """What all units share, as JSON of a `Setup`."""
    described = {name: inputs.autoencoder.get(name) for name in ("kind", "config", "tiling")}
    return {
        "config": config.model_dump(mode="json"),
        "autoencoder": canonical_json(described).decode(),
        "weights": inputs.autoencoder["weights"],
        "latent_mean": inputs.autoencoder["latent_mean"],
        "latent_std": inputs.autoencoder["latent_std"],
        "words": str(put_json(context.store, inputs.texts())) if config.text.kind == "tiny" else "",
        "t5": t5,
        "clip": clip,
    }


def _gate(manifest: Mapping[str, Any], merged: Merged, context: StepContext) -> GateResult:
    """Checks the index before the manifest exists, so that a bad dataset is never visible."""
    import pandas

    ordered = sorted(merged.rows, key=lambda row: (row["bucket"], row["clip_id"]))
    frame = pandas.DataFrame(
        [{name: value for name, value in row.items() if not name.startswith(CHECKSUM_COLUMN)} for row in ordered]
    )
    prefix = f"datasets/{manifest['name']}/{manifest['digest'][:16]}"
    gate = run_gate("dataset", frame, SUITE, prefix, context.store)
    gate.require()
    return gate


def _counts(merged: Merged, short: Mapping[str, int]) -> dict[str, Any]:
    samples = Counter(str(row["bucket"]) for row in merged.rows)
    splits = Counter({row["clip_id"]: row["split"] for row in merged.rows}.values())
    return {
        "clips": sum(splits.values()),
        "train": splits["train"],
        "held_out": splits["held_out"],
        "samples": dict(sorted(samples.items())),
        "too_short": dict(short),
        "unreadable": len(merged.unreadable),
    }


def _result(product: Reference, manifest: Mapping[str, Any], gate: GateResult) -> StepResult:
    counts, shards = manifest["counts"], manifest["shards"]
    samples, size = sum(counts["samples"].values()), sum(shard["bytes"] for shard in shards)
    names: Sequence[str] = [bucket["name"] for bucket in manifest["buckets"]]
    return StepResult(
        product=product,
        key_figure=f"{samples:,} samples of {counts['clips']:,} clips, {size / 1e6:.1f} MB",
        metrics={
            "clips": float(counts["clips"]),
            "samples": float(samples),
            "held_out_clips": float(counts["held_out"]),
            "unreadable_clips": float(counts["unreadable"]),
            "shard_bytes": float(size),
        },
        parameters={"buckets": ", ".join(names), "dataset_digest": manifest["digest"]},
        gates=[gate.as_dict()],
        page=render_page(manifest),
        files=registry_files(manifest),
    )
