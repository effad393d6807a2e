"""A store in a local directory."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store.base import StoredObject, checked_key, is_absolute, moved_key


def open_root(root: str) -> LocalStore:
    """The store of a path or of `file:///...`."""
    return LocalStore(Path(unquote(urlsplit(root).path)) if is_absolute(root) else Path(root))


PARTS = ".parts"
"""Folder of a store in which files are written until they are whole: what a killed process leaves lies there."""


class LocalStore:
    """Objects are files; a put writes into the folder `.parts`, syncs and renames."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._parts = self.directory / PARTS
        self.root = "file://" + quote(str(self.directory))

    def uri(self, key: str) -> str:
        """The URI of `key`."""
        return "file://" + quote(str(self._path_of_key(key)))

    def key(self, location: str) -> str:
        """The key of a location."""
        return self._path(location).relative_to(self.directory).as_posix()

    def put_bytes(self, key: str, data: bytes) -> str:
        """Writes `data` atomically."""
        write_whole(self._path_of_key(key), data, self._parts)
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Copies a file atomically."""
        publish(self._path_of_key(key), lambda part: _copy_and_sync(path, part), path.stat().st_size, self._parts)
        return self.uri(key)

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range."""
        try:
            with self._path(location).open("rb") as stream:
                stream.seek(start)
                return stream.read() if length is None else stream.read(length)
        except FileNotFoundError as error:
            raise self._missing(location) from error

    def size(self, location: str) -> int:
        """Number of bytes."""
        found = self.stat(location)
        if found is None:
            raise self._missing(location)
        return found.bytes

    def stat(self, location: str) -> StoredObject | None:
        """Length and time of the file."""
        return self._described(self._path(location))

    def exists(self, location: str) -> bool:
        """Whether the file is there."""
        return self._path(location).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """URIs below a prefix, sorted."""
        for path in sorted(self._below(prefix), key=str):
            yield "file://" + quote(str(path))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below a prefix."""
        for path in self._below(prefix):
            found = self._described(path)
            if found is not None:  # else removed meanwhile
                yield found

    def fetch(self, location: str, path: Path) -> Path:
        """Copies to a local file."""
        source = self._path(location)
        if not source.is_file():
            raise self._missing(location)
        publish(path, lambda part: _copy_and_sync(source, part), source.stat().st_size)
        return path

    def touch(self, location: str) -> bool:
        """Sets the file's time to now."""
        try:
            os.utime(self._path(location))
        except FileNotFoundError:
            return False
        return True

    def delete(self, location: str) -> None:
        """Removes the file."""
        self._path(location).unlink(missing_ok=True)

    def local_path(self, location: str) -> Path | None:
        """The file itself."""
        return self._path(location)

    def dvc_options(self) -> dict[str, str]:
        """Nothing: a path is all that DVC needs."""
        return {}

    def _below(self, prefix: str) -> Iterator[Path]:
        start = self._path_of_key(prefix) if prefix else self.directory
        # As on S3, a prefix is the beginning of a key, not a folder: `a/b` also finds `a/bc`, `a/b/` does not.
        begin = str(start) + "/" if not prefix or prefix.endswith("/") else str(start)
        base = start if begin.endswith("/") else start.parent
        for path in base.rglob("*"):
            if str(path).startswith(begin) and ".part-" not in path.name and path.is_file():
                yield path

    def _described(self, path: Path) -> StoredObject | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return StoredObject(path.relative_to(self.directory).as_posix(), found.st_size, found.st_mtime)

    def _missing(self, location: str) -> ZoetropeError:
        return missing(self.uri(self.key(location)))

    def _path_of_key(self, key: str) -> Path:
        return self.directory / checked_key(key, str(self.directory))

    def _path(self, location: str) -> Path:
        if not is_absolute(location):
            return self._path_of_key(location)
        path = Path(os.path.normpath(unquote(urlsplit(location).path)))
        if location.startswith("file://") and (path == self.directory or self.directory in path.parents):
            return path
        return self._path_of_key(moved_key(location, self.root))


def publish(target: Path, fill: Callable[[Path], None], size: int, parts: Path | None = None) -> None:
    """Makes `target` appear whole or not at all: `fill` writes another file, which is then renamed.

    Args:
        target: where the file shall be; folders are made.
        fill: writes and syncs the file at the path that it is given.
        size: bytes that will be written, for the message when the disk is full.
        parts: folder for the other file, on the same disk; None writes it beside the target.

    Raises:
        ZoetropeError: the disk is full; nothing is left behind.
    """
    part: Path | None = None
    try:
        folder = parts or target.parent
        for each in {target.parent, folder}:
            each.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{target.name[:100]}.part-", dir=folder)
        os.close(descriptor)
        part = Path(name)
        fill(part)
        part.chmod(0o644)
        part.replace(target)
    except BaseException as error:
        if part is not None:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = next(folder for folder in (target.parent, *target.parents) if folder.exists())
            raise disk_full(place, size) from error
        raise


def write_whole(path: Path, data: bytes, parts: Path | None = None) -> None:
    """Writes a local file so that readers see all of it or nothing, also where the disk is full."""
    publish(path, lambda part: _write_and_sync(part, data), len(data), parts)


RUN_BYTES = 500_000_000
"""What a run of the recipe `nano` writes (about 150 MB), with room to spare."""


def disk_full(directory: Path, needed: int = RUN_BYTES) -> ZoetropeError:
    """The one message for a full disk: what is needed, where, and what is free."""
    free = shutil.disk_usage(directory).free
    return ZoetropeError(
        f"disk full: {needed / 1e6:.1f} MB needed in {directory}, {free / 1e6:.1f} MB free",
        "free some space or choose another place with --store DIR, then run the same command again",
        retryable=True,
    )


def _write_and_sync(target: Path, data: bytes) -> None:
    with target.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _copy_and_sync(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def missing(uri: str) -> ZoetropeError:
    """The one message for an object that is not there."""
    return ZoetropeError(f"{uri}: not in the store", "was it deleted? run the step that makes it again")
