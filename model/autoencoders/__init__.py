"""Video autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.model.autoencoders.config import DCAEConfig

if TYPE_CHECKING:
    from zoetrope.model.autoencoders.dc_ae import VideoDCAE

__all__ = ["DCAEConfig", "load_autoencoder"]


def load_autoencoder(config: Mapping[str, Any], weights: Path) -> VideoDCAE:
    """The trained autoencoder of a `zoetrope.autoencoder.v1` product; see `dc_ae.load_autoencoder`."""
    from zoetrope.model.autoencoders.dc_ae import load_autoencoder as load

    return load(config, weights)
