"""What the encode step reads: the products of the steps before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.components.encode.tasks import long_enough
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, get_table
from zoetrope.model.autoencoders import autoencoder_config


class EncodeInputs:
    """The products that a dataset is made of.

    Attributes:
        autoencoder: the `zoetrope.autoencoder.v1` manifest.
        clips: the `zoetrope.clips.v1` manifest.
        sources: the `zoetrope.sources.v1` manifest.
        rows: kept clips with `caption` and `split`, sorted by clip identity.
    """

    def __init__(self, store: Store, captions: str, autoencoder: str) -> None:
        """Reads everything; ZoetropeError for a product of another kind."""
        self.autoencoder = _product(store, autoencoder, "zoetrope.autoencoder.v1")
        captions_product = _product(store, captions, "zoetrope.captions.v1")
        self.clips = _product(store, captions_product["clips"], "zoetrope.clips.v1")
        self.sources = _product(store, self.clips["sources"], "zoetrope.sources.v1")
        texts = {row["clip_id"]: row for row in get_table(store, captions_product["table"]).to_pylist()}
        clips = get_table(store, self.clips["table"]).to_pylist()
        self.rows: list[dict[str, Any]] = [
            {**clip, "caption": texts[clip["clip_id"]]["caption"], "split": texts[clip["clip_id"]]["split"]}
            for clip in sorted(clips, key=lambda row: str(row["clip_id"]))
            if clip["clip_id"] in texts
        ]

    def texts(self) -> list[str]:
        """The captions, each once, sorted."""
        return sorted({str(row["caption"]) for row in self.rows})


def require_sizes(config: EncodeConfig, autoencoder: Mapping[str, Any]) -> None:
    """Checks the buckets against the autoencoder's rule.

    Raises:
        ZoetropeError: it does not take the size of a bucket.
    """
    try:
        architecture = autoencoder_config(autoencoder["kind"], autoencoder["config"])
    except ValueError as error:
        raise ZoetropeError(f"autoencoder product: {error}", "make it again with this version") from error
    for bucket in config.buckets:
        try:
            architecture.latent_shape(bucket.frames, bucket.height, bucket.width)
        except ValueError as error:
            raise ZoetropeError(f"encode.buckets, {bucket.name}: {error}", "change the bucket") from error


def too_short(config: EncodeConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of clips that are too short, by bucket.

    Raises:
        ZoetropeError: all of them are, for some bucket.
    """
    spans = [(Fraction(row["start"]), Fraction(row["end"])) for row in rows]
    counts = {}
    for bucket in config.buckets:
        fitting = sum(long_enough(bucket, start, end) for start, end in spans)
        if not fitting:
            longest = max((float(end - start) for start, end in spans), default=0.0)
            raise ZoetropeError(
                f"encode: none of {len(rows)} clips is long enough for bucket {bucket.name}: it needs more than "
                f"{(bucket.frames - 1) / bucket.fps:.2f} s, the longest clip has {longest:.2f} s",
                "give longer videos, or change encode.buckets (fewer frames or more frames per second)",
            )
        counts[bucket.name] = len(rows) - fitting
    return counts


def _product(store: Store, reference: str, schema: str) -> dict[str, Any]:
    product: dict[str, Any] = get_json(store, reference)
    if product.get("schema") != schema:
        raise ZoetropeError(
            f"{reference}: schema {product.get('schema')!r} is not {schema}", "give the product of the right step"
        )
    return product
