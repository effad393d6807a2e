"""Checkpoints: what they name, and everything of them loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, local_copy, local_folder

if TYPE_CHECKING:
    import torch

    from zoetrope.model.video_model import VideoModel

CHECKPOINT_SCHEMA = "zoetrope.checkpoint.v1"


def read_checkpoint(store: Store, reference: str) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        ZoetropeError: the reference names something else.
    """
    manifest = get_json(store, reference)
    if not isinstance(manifest, dict) or manifest.get("schema") != CHECKPOINT_SCHEMA:
        raise ZoetropeError(
            f"generate: {reference} is not a checkpoint",
            "give the product of a training stage or models:/NAME@champion",
        )
    return manifest


def load_video_model(
    checkpoint: Mapping[str, Any], store: Store, work: Path, device: torch.device | str = "cpu"
) -> VideoModel:
    """Loads everything that a checkpoint names.

    Args:
        checkpoint: a `zoetrope.checkpoint.v1` manifest.
        store: where weights lie.
        work: folder for local copies.
        device: where it runs.

    Raises:
        ZoetropeError: its weights do not fit.
    """
    import torch

    from zoetrope.model.autoencoders import load_autoencoder
    from zoetrope.model.checkpoint import load_weights, make_config
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.config import MMDiTConfig
    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.text import T5_MAX_TOKENS, load_text_encoders
    from zoetrope.model.video_model import VideoModel

    text = get_json(store, checkpoint["dataset"])["text"]
    autoencoder = get_json(store, checkpoint["autoencoder"])
    try:
        with torch.device("meta"):  # its first weights would be made for nothing
            transformer = MMDiT(make_config(MMDiTConfig, checkpoint["config"]["mmdit"]))
        load_weights(transformer, local_copy(store, checkpoint["weights"], work, checkpoint["stage"]))
        weights = local_copy(store, autoencoder["weights"], work, "autoencoder")
        return VideoModel(
            transformer=transformer.to(device).eval().requires_grad_(False),
            flow=make_config(FlowConfig, checkpoint["config"]["flow"]),
            autoencoder=load_autoencoder(
                autoencoder["kind"], autoencoder["config"], weights, autoencoder.get("tiling")
            ).to(device),
            latent_mean=torch.tensor(autoencoder["latent_mean"]).view(-1, 1, 1, 1),
            latent_std=torch.tensor(autoencoder["latent_std"]).view(-1, 1, 1, 1),
            text=load_text_encoders(
                local_folder(store, text["t5"], work / "t5", "encode"),
                local_folder(store, text["clip"], work / "clip", "encode"),
                max_tokens=text.get("t5_tokens", T5_MAX_TOKENS),
                mode=text.get("mode", "ragged"),
                device=device,
            ),
        )
    except ValueError as error:
        raise ZoetropeError(f"generate: {error}", "the checkpoint and the code do not fit; train it again") from error


def choose_bucket(dataset: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The dataset bucket that gives size, frames and rate; an empty name takes the largest.

    Raises:
        ZoetropeError: there is no bucket of that name.
    """
    buckets: Sequence[dict[str, Any]] = dataset["buckets"]
    if not name:
        return max(buckets, key=lambda b: (b["height"] * b["width"] * b["frames"], b["name"]))
    for bucket in buckets:
        if bucket["name"] == name:
            return bucket
    names = ", ".join(sorted(bucket["name"] for bucket in buckets))
    raise ZoetropeError(f"generate.bucket: the dataset has no bucket {name!r}", f"choose from {names}")
