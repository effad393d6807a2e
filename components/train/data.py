"""The samples of a stage, as its processes open them."""

from __future__ import annotations

from pathlib import Path

from zoetrope.infra.store import Store, get_json
from zoetrope.model.data import LatentDataset
from zoetrope.model.training.config import StageConfig


def open_training_data(store: Store, dataset: str, stage: StageConfig, cache: Path) -> LatentDataset:
    """Opens the training split.

    Args:
        store: where it lies.
        dataset: reference of its manifest (`zoetrope.dataset.v1`).
        stage: names bucket and conditions.
        cache: folder of the index's columns, shared by the processes of a machine.

    Raises:
        ValueError: it has no such bucket or references.
        DamagedDataError: its index is damaged.
    """
    return LatentDataset.open(
        get_json(store, dataset),
        store.read,
        stage.bucket,
        "train",
        stage.drawn_conditions,
        local=store.local_path,
        cache=cache,
    )
