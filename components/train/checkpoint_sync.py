"""Resumable states in the store, for pods whose disks go with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from zoetrope.infra.references import canonical_json, digest_bytes, digest_file
from zoetrope.infra.store import Store

MARKER = "complete.json"


class CheckpointSync:
    """The newest complete state of one loop; what is half written is never seen.

    A state lies below `KEY/STATE-DIGEST/`; its marker, written last, names its files with their digests.

    Args:
        store: where it lies.
        key: the same for every attempt at the same work, e.g. `resume/stage_1-0123456789abcdef`.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    def push(self, folder: Path) -> None:
        """Uploads the newest state of a folder, then removes those before it."""
        states = sorted(folder.glob("step-*"))
        if not states:
            return
        state = states[-1]
        files = {path.name: digest_file(path) for path in sorted(state.iterdir()) if path.is_file()}
        marker = canonical_json({"state": state.name, "files": files})
        place = f"{self._key}/{state.name}-{digest_bytes(marker)[:16]}"
        for name in files:
            self._store.put_file(f"{place}/{name}", state / name)
        self._store.put_bytes(f"{place}/{MARKER}", marker)
        for uri in list(self._store.list(f"{self._key}/")):
            # not those behind it: another run of the same work may be further
            if self._place(uri).rpartition("-")[0] < state.name:
                self._store.delete(uri)

    def pull(self, folder: Path) -> None:
        """Fetches the newest complete state into a folder, unless it is there."""
        markers = [uri for uri in self._store.list(f"{self._key}/") if uri.endswith(f"/{MARKER}")]
        for uri in sorted(markers, key=self._place, reverse=True):
            marker = json.loads(self._store.read(uri))
            if (folder / marker["state"]).is_dir() or self._fetch(marker, uri.removesuffix(MARKER), folder):
                return

    def clear(self) -> None:
        """Removes everything."""
        for uri in list(self._store.list(f"{self._key}/")):
            self._store.delete(uri)

    def _fetch(self, marker: dict[str, Any], place: str, folder: Path) -> bool:
        """Whether all files came as the marker says."""
        part = folder / f"pulled-{marker['state']}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, digest in marker["files"].items():
            if not self._store.exists(place + name):  # removed meanwhile by a run that is further
                return False
            if digest_file(self._store.fetch(place + name, part / name)) != digest:
                return False
        part.rename(folder / marker["state"])
        return True

    def _place(self, uri: str) -> str:
        """`STATE-DIGEST` of an object."""
        return uri.rsplit("/", 2)[1]
