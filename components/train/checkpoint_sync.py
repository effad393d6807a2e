"""Resumable states in the store, for pods whose disks go with them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoetrope.infra.references import canonical_json, digest_bytes, digest_file
from zoetrope.infra.store import Store

warn_in_log: Callable[[str], None] = logging.getLogger(__name__).warning
MARKER = "complete.json"
KEPT = 2  # states, as the loop keeps on its disk: if the newest is damaged, the one before it is taken
DIGITS = 16
"""Of the marker's SHA-256 in the name of its state's folder."""


class CheckpointSync:
    """The newest complete states of one loop; what is half written is never seen, what is damaged never taken.

    A state lies below `KEY/STATE-DIGEST/`; its marker, written last, names its files with their digests, and DIGEST is
    that of the marker.

    Args:
        store: where it lies.
        key: the same for every attempt at the same work, e.g. `resume/stage_1-0123456789abcdef`.
        warn: is told of each state that is passed over because it is damaged.
    """

    def __init__(self, store: Store, key: str, warn: Callable[[str], None] = warn_in_log) -> None:
        self._store = store
        self._key = key
        self._warn = warn

    def push(self, folder: Path) -> None:
        """Uploads the newest state of a folder, then removes those before it but the last one."""
        states = sorted(folder.glob("step-*"))
        if not states:
            return
        state = states[-1]
        files = {path.name: digest_file(path) for path in sorted(state.iterdir()) if path.is_file()}
        marker = canonical_json({"state": state.name, "files": files})
        place = f"{self._key}/{state.name}-{digest_bytes(marker)[:DIGITS]}"
        for name in files:
            self._store.put_file(f"{place}/{name}", state / name)
        self._store.put_bytes(f"{place}/{MARKER}", marker)
        self._remove_before(state.name)

    def pull(self, folder: Path) -> None:
        """Fetches the newest sound state into a folder, unless it is there."""
        for place in reversed(self._complete()):
            marker = self._marker(place)
            if marker is not None and (_holds(folder, marker) or self._fetch(marker, place, folder)):
                return

    def clear(self) -> None:
        """Removes everything."""
        for uri in list(self._store.list(f"{self._key}/")):
            self._store.delete(uri)

    def _complete(self) -> list[str]:
        """`STATE-DIGEST` of the states that have a marker, oldest first."""
        uris = self._store.list(f"{self._key}/")
        return sorted(_place(uri) for uri in uris if uri.endswith(f"/{MARKER}"))

    def _remove_before(self, name: str) -> None:
        # not those behind it: another run of the same work may be further
        kept = [place for place in self._complete() if _state(place) < name][-(KEPT - 1) :]
        gone = [uri for uri in self._store.list(f"{self._key}/") if _state(_place(uri)) < name]
        # markers first: what is half removed is not complete
        for uri in sorted(gone, key=lambda uri: not uri.endswith(f"/{MARKER}")):
            if _place(uri) not in kept:
                self._store.delete(uri)

    def _marker(self, place: str) -> dict[str, Any] | None:
        key = f"{self._key}/{place}/{MARKER}"
        if not self._store.exists(key):  # removed meanwhile by a run that is further
            return None
        data = self._store.read(key)
        if digest_bytes(data)[:DIGITS] != place.rpartition("-")[2]:
            self._damaged(_state(place), MARKER)
            return None
        marker: dict[str, Any] = json.loads(data)
        return marker

    def _fetch(self, marker: dict[str, Any], place: str, folder: Path) -> bool:
        """Whether all files came as the marker says."""
        part = folder / f"pulled-{marker['state']}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, digest in marker["files"].items():
            key = f"{self._key}/{place}/{name}"
            if not self._store.exists(key):  # removed meanwhile by a run that is further
                return False
            if digest_file(self._store.fetch(key, part / name)) != digest:
                self._damaged(marker["state"], name)
                return False
        shutil.rmtree(folder / marker["state"], ignore_errors=True)
        part.rename(folder / marker["state"])
        return True

    def _damaged(self, state: str, name: str) -> None:
        self._warn(f"training state {state} in the store is damaged ({name}); the one before it is taken")


def _holds(folder: Path, marker: dict[str, Any]) -> bool:
    """Whether the state lies in the folder as the marker says."""
    state = folder / str(marker["state"])
    return all(
        (state / name).is_file() and digest_file(state / name) == digest for name, digest in marker["files"].items()
    )


def _place(uri: str) -> str:
    """`STATE-DIGEST` of an object."""
    return uri.rsplit("/", 2)[1]


def _state(place: str) -> str:
    return place.rpartition("-")[0]
