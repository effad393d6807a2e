"""What to generate: prompts, what they ask for, and a seed for each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, get_table

HELD_OUT = "held_out"


@dataclass(frozen=True)
class Prompt:
    """One video to generate.

    Attributes:
        text: the prompt.
        seed: seed of its noise.
        attributes: what a judge must see, e.g. {color: red, direction: left}; empty where nobody said.
    """

    text: str
    seed: int
    attributes: Mapping[str, str] = field(default_factory=dict)


def choose_prompts(config: GenerateConfig, dataset: Mapping[str, Any], store: Store) -> list[Prompt]:
    """`config.videos` prompts: explicit ones, else the dataset's held-out prompts, else captions of held-out clips.

    Args:
        config: number, seed and explicit prompts.
        dataset: a `zoetrope.dataset.v1` manifest.
        store: where its tables lie.

    Raises:
        ZoetropeError: there is nothing to choose from.
    """
    texts: list[tuple[str, dict[str, str]]] = [(text, {}) for text in config.prompts]
    if not texts and dataset.get("prompts"):
        prompts = get_json(store, dataset["prompts"])
        texts = [(entry["prompt"], dict(entry.get("attributes") or {})) for entry in prompts]
    if not texts:
        texts = _held_out_captions(dataset, store)
    if not texts:
        raise ZoetropeError(
            "generate: the dataset has neither held-out prompts nor held-out clips",
            "give prompts with --set generate.prompts='[\"...\"]' or raise caption.held_out_fraction",
        )
    return [
        Prompt(text, config.seed + index, attributes)
        for index, (text, attributes) in zip(range(config.videos), itertools.cycle(texts), strict=False)
    ]


def _held_out_captions(dataset: Mapping[str, Any], store: Store) -> list[tuple[str, dict[str, str]]]:
    """Captions of held-out clips in the order of their identity, each once."""
    found: dict[str, dict[str, str]] = {}
    for row in caption_rows(dataset, store):
        if row["split"] == HELD_OUT:
            found.setdefault(row["caption"], json.loads(row["attributes"] or "{}") or {})
    return list(found.items())


def caption_rows(dataset: Mapping[str, Any], store: Store) -> list[dict[str, Any]]:
    """Rows of the dataset's `captions.parquet`, sorted by clip."""
    product = get_json(store, dataset["captions"])
    rows: list[dict[str, Any]] = get_table(store, product["table"]).to_pylist()
    return rows


def held_out_clips(dataset: Mapping[str, Any], bucket: str, store: Store) -> list[Prompt]:
    """Captions of the held-out clips of a bucket, in the order in which the loader counts them, seeds 0."""
    rows = caption_rows(dataset, store)
    attributes = {row["clip_id"]: json.loads(row["attributes"] or "{}") or {} for row in rows}
    index = get_table(store, dataset["index"]).to_pylist()
    chosen = [row for row in index if row["bucket"] == bucket and row["split"] == HELD_OUT]
    return [
        Prompt(row["caption"], 0, attributes.get(row["clip_id"], {}))
        for row in sorted(chosen, key=lambda row: str(row["clip_id"]))
    ]
