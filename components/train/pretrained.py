"""Released weights of an autoencoder, taken into the store as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from zoetrope.components.train.config import AutoencoderStepConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import put_file_content


@dataclass(frozen=True)
class Pretrained:
    """Weights that fit their architecture.

    Attributes:
        name: of the user's file, without its folder.
        weights: the same bytes in the store.
        parameters: their number.
    """

    name: str
    weights: Reference
    parameters: int


def require_file(path: str, key: str) -> Path:
    """A user's file of weights, which `key` of the recipe names.

    Raises:
        ZoetropeError: it is not there.
    """
    file = Path(path)
    if not file.is_file():
        raise ZoetropeError(f"{key}: there is no file {file}", "give the path of a .safetensors file on this machine")
    return file


def import_weights(config: AutoencoderStepConfig, context: StepContext) -> Pretrained:
    """Checks `config.pretrained` against the architecture, name by name and shape by shape, and stores it.

    Raises:
        ZoetropeError: there is no such file, it is not safetensors, or it does not fit.
    """
    from zoetrope.model.autoencoders import load_autoencoder

    path = require_file(config.pretrained, "autoencoder.pretrained")
    context.progress(f"checking {path.name}")
    try:
        model = load_autoencoder(config.kind, asdict(config.chosen), path)
    except ValueError as error:
        raise ZoetropeError(
            f"autoencoder.pretrained: {error}",
            "give weights of this kind and architecture, or change autoencoder.kind and its architecture",
        ) from error
    count = sum(parameter.numel() for parameter in model.parameters())
    return Pretrained(path.name, put_file_content(context.store, path), count)
