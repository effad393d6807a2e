"""A checkpoint with all it needs to make videos: transformer, autoencoder, text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_json

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from numpy import uint8

    from zoetrope.model.autoencoders.interface import VideoAutoencoder
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.text import TextEncoders

CHECKPOINT_SCHEMA = "zoetrope.checkpoint.v1"


@dataclass(frozen=True)
class VideoModel:
    """A checkpoint, loaded.

    Attributes:
        transformer: predicts the velocity.
        flow: the flow that it was trained on.
        autoencoder: between pixels and latents.
        latent_mean: [C, 1, 1, 1], subtracted from latents before training.
        latent_std: [C, 1, 1, 1], latents were divided by it.
        text: the text encoders that the dataset was encoded with.
        dataset: the `zoetrope.dataset.v1` manifest.
    """

    transformer: MMDiT
    flow: FlowConfig
    autoencoder: VideoAutoencoder
    latent_mean: torch.Tensor
    latent_std: torch.Tensor
    text: TextEncoders
    dataset: Mapping[str, Any]

    def untrained(self, seed: int) -> MMDiT:
        """A transformer of the same configuration with the weights that training starts from."""
        from zoetrope.model.mmdit.model import MMDiT

        return MMDiT(self.transformer.config).initialise(seed).eval().requires_grad_(False)

    def decode(self, latent: torch.Tensor) -> npt.NDArray[uint8]:
        """Pixels of normalised latents: [B, C, T', H', W'] -> uint8 [B, T, H, W, 3]."""
        import torch

        with torch.inference_mode():
            video = self.autoencoder.decode(latent * self.latent_std + self.latent_mean)
        pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        frames: npt.NDArray[uint8] = pixels.permute(0, 2, 3, 4, 1).contiguous().numpy()
        return frames

    def encode_image(self, path: Path, height: int, width: int) -> torch.Tensor:
        """Normalised latent of an image, scaled to cover the size and cropped around the centre: [C, 1, H', W'].

        Raises:
            ZoetropeError: the file cannot be read as an image.
        """
        import numpy as np
        import torch
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError) as error:
            raise ZoetropeError(f"{path}: not an image that can be read ({error})", "give a PNG or JPEG") from error
        pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1).float() / 127.5 - 1
        with torch.inference_mode():
            latent = self.autoencoder.encode(pixels[None, :, None])[0]
        return (latent - self.latent_mean) / self.latent_std


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


def load_video_model(checkpoint: Mapping[str, Any], store: Store, work: Path) -> VideoModel:
    """Loads everything that a checkpoint names.

    Args:
        checkpoint: a `zoetrope.checkpoint.v1` manifest.
        store: where weights lie.
        work: folder for local copies.

    Raises:
        ZoetropeError: its weights do not fit.
    """
    import torch

    from zoetrope.model.autoencoders import load_autoencoder
    from zoetrope.model.checkpoint import load_weights, make_config
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.config import MMDiTConfig
    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.text import load_text_encoders

    dataset = get_json(store, checkpoint["dataset"])
    autoencoder = get_json(store, checkpoint["autoencoder"])
    try:
        transformer = MMDiT(make_config(MMDiTConfig, checkpoint["config"]["mmdit"]))
        load_weights(transformer, _fetch(store, checkpoint["weights"], work / "transformer.safetensors"))
        return VideoModel(
            transformer=transformer.eval().requires_grad_(False),
            flow=make_config(FlowConfig, checkpoint["config"]["flow"]),
            autoencoder=load_autoencoder(
                autoencoder["kind"],
                autoencoder["config"],
                _fetch(store, autoencoder["weights"], work / "autoencoder.safetensors"),
                autoencoder.get("tiling"),
            ),
            latent_mean=torch.tensor(autoencoder["latent_mean"]).view(-1, 1, 1, 1),
            latent_std=torch.tensor(autoencoder["latent_std"]).view(-1, 1, 1, 1),
            text=load_text_encoders(
                _fetch_folder(store, dataset["text"]["t5"], work / "t5"),
                _fetch_folder(store, dataset["text"]["clip"], work / "clip"),
            ),
            dataset=dataset,
        )
    except ValueError as error:
        raise ZoetropeError(f"generate: {error}", "the checkpoint and the code do not fit; train it again") from error


def _fetch(store: Store, reference: str, path: Path) -> Path:
    """A local file with the content; the store's own where it is on this disk."""
    uri = Reference.parse(reference).uri
    path.parent.mkdir(parents=True, exist_ok=True)
    return store.local_path(uri) or store.fetch(uri, path)


def _fetch_folder(store: Store, files: Mapping[str, str], folder: Path) -> Path:
    for name, reference in sorted(files.items()):
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts:
            raise ZoetropeError(f"dataset manifest: file name {name!r} leaves its folder", "the manifest was changed")
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(Reference.parse(reference).uri, target)
    return folder


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
