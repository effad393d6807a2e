"""Digests of the user's own files and folders: what a step reads that no reference covers."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_bytes, digest_file, digest_json
from zoetrope.infra.store import Store
from zoetrope.infra.store.local import write_whole

MEMORY = "checked/own-files.json"
SETTLED_SECONDS = 0.1
"""A file that was written within this time is not remembered: its time would not tell a second write."""


class ContentDigests:
    """Hashes files at first use and remembers them by size, time and inode, so that it costs once.

    Args:
        store: beside whose objects the memory lies, where it is on this disk; None or another one remembers nothing.
    """

    def __init__(self, store: Store | None) -> None:
        self._memory = store.local_path(store.uri(MEMORY)) if store is not None else None
        self._known: dict[str, list[object]] = {}
        self._changed = False
        if self._memory is not None and self._memory.is_file():
            try:
                self._known = json.loads(self._memory.read_bytes())
            except ValueError:
                self._known = {}

    def of(self, path: Path) -> str:
        """Digest over names and content of a file, or of all files below a folder.

        A link is known by where it leads, a pipe or device by its name; nothing of the kind is opened.

        Raises:
            ZoetropeError: it is not there or cannot be read.
        """
        try:
            if path.is_dir():
                found = {name: self._tolerant(path / name) for name in sorted(_names(path), key=os.fsencode)}
            else:
                found = {path.name: self._file(path)}
        except OSError as error:
            raise ZoetropeError(f"{path}: {error.strerror}", "give a file or folder that can be read") from error
        finally:
            self._save()
        names = {os.fsencode(name).decode("utf-8", "backslashreplace"): digest for name, digest in found.items()}
        return digest_json(names)

    def _tolerant(self, path: Path) -> str:
        """One file of many: that it cannot be read is its step's to judge."""
        try:
            return self._file(path)
        except OSError as error:
            return f"unreadable: {error.strerror}"

    def _file(self, path: Path) -> str:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return "link:" + digest_bytes(os.fsencode(path.readlink()))
        if not stat.S_ISREG(status.st_mode):
            return "special"
        state: list[object] = [status.st_size, status.st_mtime_ns, status.st_ino]
        key = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
        known = self._known.get(key)
        if known is not None and known[:3] == state:
            return str(known[3])
        digest = digest_file(path)
        if time.time() - status.st_mtime > SETTLED_SECONDS:
            self._known[key] = [*state, digest]
            self._changed = True
        return digest

    def _save(self) -> None:
        if self._memory is not None and self._changed:
            write_whole(self._memory, json.dumps(self._known).encode())
            self._changed = False


def _names(folder: Path) -> list[str]:
    """Files below a folder, relative to it; folders that are links are not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in (*files, *links)]  # noqa: PTH118
    return found
