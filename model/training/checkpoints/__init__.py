"""Checkpoints of a training: written beside it, whole or not at all, and read by any number of ranks."""

from zoetrope.model.training.checkpoints.checkpoints import Checkpoints
from zoetrope.model.training.checkpoints.identity import Identity
from zoetrope.model.training.checkpoints.listing import remove_all
from zoetrope.model.training.checkpoints.state import TrainingState, UnfitCheckpointError
from zoetrope.model.training.checkpoints.store import (
    CheckpointStore,
    LocalCheckpointStore,
    StoreError,
    UnreadableError,
)
from zoetrope.model.training.retention import Retention

__all__ = [
    "CheckpointStore",
    "Checkpoints",
    "Identity",
    "LocalCheckpointStore",
    "Retention",
    "StoreError",
    "TrainingState",
    "UnfitCheckpointError",
    "UnreadableError",
    "remove_all",
]
