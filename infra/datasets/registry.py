"""The registry of dataset versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoetrope.infra.store import Store


@dataclass(frozen=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        tag: `NAME-vN`.
        revision: commit of the registry.
        digest: the dataset's own SHA-256, which does not depend on where it is stored.
        reference: the manifest, `URI@sha256:HEX`.
    """

    tag: str
    revision: str
    digest: str
    reference: str


class DatasetRegistry:
    """A git + DVC repository with one tag per dataset version; its DVC remote is the store."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._directory = directory
        self._store = store

    def adopt(self, manifest_reference: str, run_id: str) -> DatasetVersion:
        """Commits and tags a dataset; the same digest gives the same tag again."""
        raise NotImplementedError

    def resolve(self, version: str) -> DatasetVersion:
        """The version behind a tag, a commit of the registry, a dataset's name or `latest`."""
        raise NotImplementedError

    def versions(self) -> list[DatasetVersion]:
        """All versions, by name and number."""
        raise NotImplementedError
