"""The video model and everything torch: architectures, flow matching, sampler, data, training.

A library by itself: needs torch, safetensors and numpy, and transformers for the text encoders. Names are loaded at
first use, so that configurations can be read without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoetrope.model.autoencoders import DCAEConfig, HunyuanVideoConfig, TilingConfig, load_autoencoder
    from zoetrope.model.checkpoint import load_weights, save_weights
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.config import MMDiTConfig
    from zoetrope.model.mmdit.flux import FluxWeights
    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.released import ReleasedFolder
    from zoetrope.model.sampling import SamplerConfig, TextCondition, VisualCondition, sample_latents
    from zoetrope.model.text import TextEncoders, load_text_encoders

_PLACES = {
    "DCAEConfig": "autoencoders",
    "FlowConfig": "flow",
    "FluxWeights": "mmdit.flux",
    "HunyuanVideoConfig": "autoencoders",
    "MMDiT": "mmdit.model",
    "MMDiTConfig": "mmdit.config",
    "ReleasedFolder": "released",
    "SamplerConfig": "sampling",
    "TextCondition": "sampling",
    "TextEncoders": "text",
    "TilingConfig": "autoencoders",
    "VisualCondition": "sampling",
    "load_autoencoder": "autoencoders",
    "load_text_encoders": "text",
    "load_weights": "checkpoint",
    "sample_latents": "sampling",
    "save_weights": "checkpoint",
}

__all__ = [
    "DCAEConfig",
    "FlowConfig",
    "FluxWeights",
    "HunyuanVideoConfig",
    "MMDiT",
    "MMDiTConfig",
    "ReleasedFolder",
    "SamplerConfig",
    "TextCondition",
    "TextEncoders",
    "TilingConfig",
    "VisualCondition",
    "load_autoencoder",
    "load_text_encoders",
    "load_weights",
    "sample_latents",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    """Loads a public name at first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
