"""Dataset versions: a git + DVC repository with one tag per version."""

from zoetrope.infra.datasets.registry import DatasetRegistry, DatasetVersion

__all__ = ["DatasetRegistry", "DatasetVersion"]
