"""What checkpoints need of an object store, and that of a local folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

PART = ".part-"
"""In the name of a file that is being written: what a killed process leaves."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreError(Exception):
    """The store did not do what it was asked: its disk is full, it refuses, it does not answer."""


class UnreadableError(StoreError):
    """This object is not there or cannot be read; another one may."""


class CheckpointStore(Protocol):
    """A tree of objects that are written once. Keys are relative paths with forward slashes.

    A put is atomic: readers see all of it or nothing. Calls may come from several threads. Passing faults are the
    store's own to wait for: what it raises counts as refused for this time.
    """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes an object; `data` is not kept. Raises StoreError."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, to the end where it is None; fewer where the object ends.

        Raises:
            UnreadableError: this object cannot be read.
            StoreError: the store cannot.
        """
        ...

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Key -> bytes of all objects in the folder `prefix`, at any depth; raises StoreError."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none; raises StoreError."""
        ...


class LocalCheckpointStore:
    """Checkpoints in a local folder, or on a disk that all nodes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes beside the place, syncs and renames."""
        path = self._path(key)
        part: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f"{path.name}{PART}", dir=path.parent)
            part = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            if part is not None:
                with suppress(OSError):  # the first error is the one to tell
                    part.unlink(missing_ok=True)
            raise self._explained(error, path, len(data)) from error

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range."""
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(-1 if length is None else length)
        except OSError as error:
            raise UnreadableError(f"{path}: {error.strerror}") from error

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Lists files."""
        start = self._path(prefix)
        found = {}
        try:
            for folder, _, names in os.walk(start, onerror=_raise):
                for name in names:
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):  # removed or renamed meanwhile
                        found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._explained(error, start, 0) from error
        return found

    def delete(self, key: str) -> None:
        """Removes a file, and its folder where it was the last one."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._explained(error, path, 0) from error
        with suppress(OSError):  # not empty, or gone
            path.parent.rmdir()

    def _path(self, key: str) -> Path:
        if any(piece in ("", ".", "..") for piece in key.split("/")):
            raise ValueError(f"key {key!r} of a checkpoint leaves its folder or is empty")
        return self._folder / key

    def _explained(self, error: OSError, path: Path, size: int) -> StoreError:
        if error.errno not in _FULL:
            return StoreError(f"{path}: {error.strerror}")
        place = next(folder for folder in (self._folder, *self._folder.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        return StoreError(f"disk full: {size / 1e6:.1f} MB needed in {self._folder}, {free / 1e6:.1f} MB free")


def _raise(error: OSError) -> None:
    raise error


def _sync_folder(folder: Path) -> None:
    """So that a name outlives a loss of power like its content does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
