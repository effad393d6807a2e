"""The checkpoints that lie in a store, complete or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoetrope.model.training.checkpoints.format import (
    INDEX,
    MARKER,
    DamagedCheckpointError,
    Place,
    decode_marker,
    file_entry,
)
from zoetrope.model.training.checkpoints.store import CheckpointStore, UnreadableError


@dataclass(frozen=True)
class Listing:
    """What lay below one key at one time.

    Attributes:
        store: where.
        key: of all checkpoints of a training.
        files: checkpoint -> name -> bytes.
    """

    store: CheckpointStore
    key: str
    files: Mapping[Place, Mapping[str, int]]

    @classmethod
    def of(cls, store: CheckpointStore, key: str) -> Listing:
        """Asks the store, once; raises StoreError."""
        files: dict[Place, dict[str, int]] = {}
        for name, size in store.sizes(key).items():
            place = Place.of(name)
            if place is not None:
                files.setdefault(place, {})[name.rpartition("/")[2]] = size
        return cls(store, key, files)

    def complete(self, place: Place) -> bool:
        """Whether its marker is there."""
        return MARKER in self.files[place]

    def newest_first(self) -> list[Place]:
        """All; of one step the complete ones first."""
        return sorted(self.files, key=lambda each: (each.step, self.complete(each), each.name), reverse=True)

    def marker(self, place: Place) -> dict[str, Any]:
        """What a checkpoint's marker says.

        Raises:
            DamagedCheckpointError: it is missing or not what was written.
            StoreError: the store cannot be read.
        """
        if not self.complete(place):
            raise DamagedCheckpointError(f"{MARKER} is missing, so it is incomplete")
        return decode_marker(self._read(place, MARKER))

    def opened(self, place: Place) -> tuple[dict[str, Any], bytes]:
        """Marker and index, after all files were found to have their length.

        Raises:
            DamagedCheckpointError: a file is missing or not what was written, and which.
            StoreError: the store cannot be read.
        """
        body, there = self.marker(place), self.files[place]
        for name, about in body["files"].items():
            if name not in there:
                raise DamagedCheckpointError(f"{name} is missing")
            if there[name] != about["bytes"]:
                raise DamagedCheckpointError(f"{name} has {there[name]:,} bytes instead of {about['bytes']:,}")
        index = self._read(place, INDEX)
        if file_entry(INDEX, index).digest != body["files"][INDEX]["digest"]:
            raise DamagedCheckpointError(f"{INDEX} does not match its digest")
        return body, index

    def remove(self, place: Place) -> None:
        """Removes a checkpoint, its marker first: what is half removed is not complete. Raises StoreError."""
        for name in sorted(self.files[place], key=lambda name: name != MARKER):
            self.store.delete(f"{self.key}/{place.name}/{name}")

    def _read(self, place: Place, name: str) -> bytes:
        try:
            return self.store.read(f"{self.key}/{place.name}/{name}")
        except UnreadableError as error:
            raise DamagedCheckpointError(f"{name} cannot be read: {error}") from error


def remove_all(store: CheckpointStore, key: str) -> None:
    """Removes all checkpoints below a key, where their training is over. Raises StoreError."""
    listing = Listing.of(store, key)
    for place in listing.newest_first()[::-1]:
        listing.remove(place)
