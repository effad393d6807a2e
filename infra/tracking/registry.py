"""The model registry: versions point at checkpoints in the store, aliases say which one counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoetrope.infra.references import Reference


@dataclass(frozen=True)
class ModelVersion:
    """One registered checkpoint.

    Attributes:
        name: registered model.
        version: 1, 2, ...
        checkpoint: reference to the checkpoint manifest.
        aliases: e.g. `("champion",)`, sorted.
        tags: everything else known of it.
    """

    name: str
    version: int
    checkpoint: Reference
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry:
    """Versions and aliases in MLflow; weights stay where they are."""

    def __init__(self, uri: str) -> None:
        raise NotImplementedError

    def register(
        self,
        name: str,
        checkpoint: Reference,
        source_run_id: str = "",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """The version of a checkpoint; the same checkpoint is registered once."""
        raise NotImplementedError

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Moves an alias to a version."""
        raise NotImplementedError

    def set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        raise NotImplementedError

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version behind an alias, None when there is none."""
        raise NotImplementedError

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, oldest first; empty for an unknown model."""
        raise NotImplementedError

    def resolve(self, model: str) -> Reference:
        """The checkpoint of `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
        raise NotImplementedError
