"""The encode step: kept clips and their captions become a dataset version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.inputs import EncodeInputs, require_sizes, too_short
from zoetrope.components.encode.jobs import (
    EncodedSource,
    EncodedTexts,
    SourceJob,
    TextJob,
    WorkerSetup,
    source_jobs,
    with_texts,
)
from zoetrope.components.encode.manifest import SCHEMA, bucket_entries, dataset_digest, index_table
from zoetrope.components.encode.page import render_page
from zoetrope.components.encode.text import encoder_folders, text_section
from zoetrope.components.encode.writing import DatasetWriter
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import GateResult, run_gate
from zoetrope.infra.references import Reference, canonical_json
from zoetrope.infra.steps import StepContext, StepResult
from zoetrope.infra.store import put_json, put_table
from zoetrope.infra.workers import map_in_processes

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
    jobs = list(source_jobs(config, inputs.rows))
    folders = encoder_folders(config.text, context.work / "text")
    writer = DatasetWriter(config, context)
    setup = _setup(config, inputs, folders, context)
    results = map_in_processes(partial(_work, setup), list(with_texts(jobs)), config.workers)
    writer.write(results, sum(len(job.clips) for job in jobs))
    _require_samples(writer)
    index = put_table(context.store, index_table(writer.rows))
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "name": config.name,
        "autoencoder": autoencoder,
        "text": text_section(config.text, folders, writer.null, context),
        "buckets": bucket_entries(config, writer.shapes),
        "shards": writer.shards,
        "index": str(index),
        "index_bytes": context.store.size(index.uri),
        "counts": _counts(writer, short),
        "licence": inputs.sources["licence"],
        "rights": inputs.sources["rights"],
        "funnel": inputs.clips["funnel"],
        "captions": captions,
        "prompts": inputs.sources["prompts"],
    }
    manifest["digest"] = dataset_digest(manifest, inputs.autoencoder)
    gate = _gate(manifest, writer, context)
    # a dataset version tells what it passed to whoever trains on it later; not part of its digest
    passed = [*inputs.sources.get("gates", []), *inputs.clips.get("gates", [])]
    manifest["gates"] = [*passed, gate.verdict()]
    return _result(put_json(context.store, manifest), manifest, gate)


def _work(setup: WorkerSetup, job: SourceJob | TextJob) -> EncodedSource | EncodedTexts:
    """Runs in a worker; the step's own process does without PyTorch."""
    from zoetrope.components.encode.worker import work

    return work(setup, job)


def _setup(config: EncodeConfig, inputs: EncodeInputs, folders: tuple[Path, Path], context: StepContext) -> WorkerSetup:
    uri = Reference.parse(inputs.autoencoder["weights"]).uri
    weights = context.store.local_path(uri) or context.store.fetch(uri, context.work / "autoencoder.safetensors")
    scratch = context.work / "videos"
    scratch.mkdir(parents=True, exist_ok=True)
    captions = context.work / "captions.json"
    captions.write_bytes(canonical_json(inputs.texts()))
    return WorkerSetup(
        config=config,
        store=context.store.root,
        autoencoder=canonical_json(
            {name: inputs.autoencoder.get(name) for name in ("kind", "config", "tiling")}
        ).decode(),
        weights=str(weights),
        latent_mean=tuple(inputs.autoencoder["latent_mean"]),
        latent_std=tuple(inputs.autoencoder["latent_std"]),
        t5_folder=str(folders[0]),
        clip_folder=str(folders[1]),
        captions=str(captions),
        scratch=str(scratch),
    )


def _require_samples(writer: DatasetWriter) -> None:
    if not writer.rows:
        raise ZoetropeError(
            f"encode: none of {len(writer.unreadable)} clips could be decoded",
            "were the source videos changed since they were curated? run the ingest step again",
        )


def _gate(manifest: Mapping[str, Any], writer: DatasetWriter, context: StepContext) -> GateResult:
    """Checks the index before the manifest exists, so that a bad dataset is never visible."""
    import pandas

    frame = pandas.DataFrame(sorted(writer.rows, key=lambda row: (row["bucket"], row["clip_id"])))
    prefix = f"datasets/{manifest['name']}/{manifest['digest'][:16]}"
    gate = run_gate("dataset", frame, SUITE, prefix, context.store)
    gate.require()
    return gate


def _counts(writer: DatasetWriter, short: Mapping[str, int]) -> dict[str, Any]:
    samples = Counter(str(row["bucket"]) for row in writer.rows)
    splits = Counter({row["clip_id"]: row["split"] for row in writer.rows}.values())
    return {
        "clips": sum(splits.values()),
        "train": splits["train"],
        "held_out": splits["held_out"],
        "samples": dict(sorted(samples.items())),
        "too_short": dict(short),
        "unreadable": len(writer.unreadable),
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
    )
