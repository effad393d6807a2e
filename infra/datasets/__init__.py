"""Dataset versions: a git + DVC repository with one tag per version, here or behind a git remote."""

from zoetrope.infra.datasets.dataset_registry import DatasetRegistry
from zoetrope.infra.datasets.layout import registry_files
from zoetrope.infra.datasets.remote import GitRemote, RemoteClone, RemoteRegistry, resolve_dataset
from zoetrope.infra.datasets.versions import DatasetVersion

__all__ = [
    "DatasetRegistry",
    "DatasetVersion",
    "GitRemote",
    "RemoteClone",
    "RemoteRegistry",
    "registry_files",
    "resolve_dataset",
]
