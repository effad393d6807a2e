"""A folder and an object store behind one small interface: what files there are, and the bytes of a small one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoetrope.components.ingest.captions import Caption, read_catalogue, read_sidecar
from zoetrope.components.ingest.config import SourceConfig
from zoetrope.components.ingest.listing import Entry, list_folder, list_store
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, open_store

MAX_SMALL_FILE = 1 << 30
"""Catalogues and caption files larger than this are not read into memory."""


@dataclass(frozen=True)
class OpenSource:
    """A source that can be read.

    Attributes:
        entries: its files, sorted by name.
        read: bytes of the small file of this key, None where there is none.
        root: of the object store that the entries lie in; empty for local files.
        place: how messages name it.
    """

    entries: list[Entry]
    read: Callable[[str], bytes | None]
    root: str
    place: str

    def captions(self) -> dict[str, list[Caption]]:
        """Captions by key of the entry: of the catalogue, else of the text file beside the video."""
        catalogue = read_catalogue(self.read, "catalogue")
        by_key = {entry.key: entry.name for entry in self.entries}
        found = {key: catalogue.get(key) or catalogue.get(name) or [] for key, name in by_key.items()}
        return {key: captions or read_sidecar(self.read, key) for key, captions in found.items()}

    def missing(self) -> list[Entry]:
        """Files that the catalogue names and the source lacks."""
        known = {entry.key for entry in self.entries} | {entry.name for entry in self.entries}
        named = read_catalogue(self.read, "catalogue")
        problem = "missing: the catalogue names it, the source does not have it"
        return [Entry(key, None, problem=problem) for key in sorted(set(named) - known)]

    def prompts(self) -> list[Any] | None:
        """Prompts for generation that come with the source, None where there are none."""
        data = self.read("prompts.json")
        if data is None:
            return None
        try:
            prompts = json.loads(data)
        except ValueError as error:
            raise ZoetropeError(f"{self.place}/prompts.json is not JSON: {error}", "fix or remove it") from error
        if not isinstance(prompts, list) or not all(
            isinstance(row, dict) and isinstance(row.get("prompt"), str) for row in prompts
        ):
            raise ZoetropeError(
                f"{self.place}/prompts.json has the wrong form",
                'write [{"prompt": "...", "attributes": {}}]',
            )
        return prompts


def open_source(source: SourceConfig) -> OpenSource:
    """Lists a folder or an object store."""
    if source.folder:
        folder = Path(source.folder)
        return OpenSource(list_folder(folder), _folder_reader(folder), "", source.folder)
    store = open_store(source.s3)
    return OpenSource(list_store(store), _store_reader(store), store.root, source.s3)


def _folder_reader(folder: Path) -> Callable[[str], bytes | None]:
    root = folder.resolve()

    def read(key: str) -> bytes | None:
        path = root / key
        # A caption file that is a link out of the folder would smuggle any text file into the data set.
        if not path.is_file() or root not in path.resolve().parents:
            return None
        if path.stat().st_size > MAX_SMALL_FILE:
            raise ZoetropeError(f"{key} has more than {MAX_SMALL_FILE >> 20} MiB", "split the source")
        return path.read_bytes()

    return read


def _store_reader(store: Store) -> Callable[[str], bytes | None]:
    def read(key: str) -> bytes | None:
        uri = store.uri(key)
        return store.read(uri) if store.exists(uri) else None

    return read
