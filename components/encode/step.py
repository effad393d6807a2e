"""The encode step: kept clips and their captions become a dataset version."""

from __future__ import annotations

from zoetrope.components.encode.config import EncodeConfig
from zoetrope.infra.steps import StepContext, StepResult


def encode(config: EncodeConfig, captions: str, autoencoder: str, context: StepContext) -> StepResult:
    """Encodes all kept clips with the trained autoencoder and their captions with the text encoders.

    Args:
        config: buckets, text encoders, shard size, workers.
        captions: reference of a `zoetrope.captions.v1` product.
        autoencoder: reference of a `zoetrope.autoencoder.v1` product.
        context: store, scratch folder, events.

    Returns:
        The `zoetrope.dataset.v1` product, which is a dataset version.
    """
    raise NotImplementedError
