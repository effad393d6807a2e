"""Video autoencoders behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.model.autoencoders.base_config import AutoencoderConfig, Kind, TilingConfig
from zoetrope.model.autoencoders.config import DCAEConfig
from zoetrope.model.autoencoders.hunyuan_video.config import HunyuanVideoConfig

if TYPE_CHECKING:
    from zoetrope.model.autoencoders.interface import VideoAutoencoder

__all__ = [
    "AUTOENCODERS",
    "AutoencoderConfig",
    "DCAEConfig",
    "HunyuanVideoConfig",
    "Kind",
    "TilingConfig",
    "autoencoder_config",
    "build_autoencoder",
    "load_autoencoder",
]

AUTOENCODERS: Mapping[Kind, type[DCAEConfig] | type[HunyuanVideoConfig]] = {
    "dc_ae": DCAEConfig,
    "hunyuan_video": HunyuanVideoConfig,
}


def autoencoder_config(kind: str, values: Mapping[str, Any]) -> AutoencoderConfig:
    """The configuration in a `zoetrope.autoencoder.v1` product.

    Args:
        kind: name of the architecture.
        values: its fields.

    Raises:
        ValueError: unknown kind or fields.
    """
    from zoetrope.model.checkpoint import make_config

    for known, config in AUTOENCODERS.items():
        if known == kind:
            return make_config(config, values)
    raise ValueError(f"unknown kind of autoencoder {kind!r}; there are {', '.join(AUTOENCODERS)}")


def build_autoencoder(config: AutoencoderConfig) -> VideoAutoencoder:
    """An autoencoder of that architecture, with whatever weights PyTorch gives it.

    Raises:
        ValueError: no architecture has this configuration.
    """
    from zoetrope.model.autoencoders.dc_ae import VideoDCAE
    from zoetrope.model.autoencoders.hunyuan_video.model import HunyuanVideoVAE

    if isinstance(config, DCAEConfig):
        return VideoDCAE(config)
    if isinstance(config, HunyuanVideoConfig):
        return HunyuanVideoVAE(config)
    raise ValueError(f"no autoencoder has a {type(config).__name__}")


def load_autoencoder(
    kind: str, config: Mapping[str, Any], weights: Path, tiling: Mapping[str, Any] | None = None
) -> VideoAutoencoder:
    """The autoencoder of a `zoetrope.autoencoder.v1` product, in evaluation mode.

    Args:
        kind: name of the architecture.
        config: its fields.
        weights: safetensors file.
        tiling: fields of `TilingConfig`; None does not tile.

    Raises:
        ValueError: unknown kind or fields, weights that do not fit the config, or tiles that its factors do not
            divide.
    """
    import torch

    from zoetrope.model.checkpoint import load_weights, make_config

    with torch.device("meta"):  # its first weights would be made for nothing
        model = build_autoencoder(autoencoder_config(kind, config))
    load_weights(model, weights)
    model.tiling = None if tiling is None else make_config(TilingConfig, tiling)
    return model.eval().requires_grad_(False)
