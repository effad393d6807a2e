"""A store in a local directory."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from zoetrope.infra.errors import ZoetropeError


class LocalStore:
    """Objects are files; a put writes beside the target, syncs and renames."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.root = "file://" + quote(str(self.directory))

    def uri(self, key: str) -> str:
        """The URI of `key`."""
        return "file://" + quote(str(self._path_of_key(key)))

    def put_bytes(self, key: str, data: bytes) -> str:
        """Writes `data` atomically."""

        def fill(part: Path) -> None:
            with part.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())

        self._publish(self._path_of_key(key), fill, len(data))
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Copies a file atomically."""
        self._publish(self._path_of_key(key), lambda part: _copy_and_sync(path, part), path.stat().st_size)
        return self.uri(key)

    def read(self, uri: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range."""
        try:
            with self._path_of_uri(uri).open("rb") as stream:
                stream.seek(start)
                return stream.read() if length is None else stream.read(length)
        except FileNotFoundError as error:
            raise ZoetropeError(f"{uri}: not in the store", "was it deleted? run the step that makes it again") from error

    def size(self, uri: str) -> int:
        """Number of bytes."""
        return self._path_of_uri(uri).stat().st_size

    def exists(self, uri: str) -> bool:
        """Whether the file is there."""
        return self._path_of_uri(uri).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """URIs below a prefix, sorted."""
        folder = self._path_of_key(prefix) if prefix else self.directory
        base = folder if folder.is_dir() else folder.parent
        for path in sorted(base.rglob("*")):
            if path.is_file() and str(path).startswith(str(folder)) and ".part-" not in path.name:
                yield "file://" + quote(str(path))

    def fetch(self, uri: str, path: Path) -> Path:
        """Copies to a local file."""
        source = self._path_of_uri(uri)
        if not source.is_file():
            raise ZoetropeError(f"{uri}: not in the store", "was it deleted? run the step that makes it again")
        self._publish(path, lambda part: _copy_and_sync(source, part), source.stat().st_size)
        return path

    def delete(self, uri: str) -> None:
        """Removes the file."""
        self._path_of_uri(uri).unlink(missing_ok=True)

    def local_path(self, uri: str) -> Path | None:
        """The file itself."""
        return self._path_of_uri(uri)

    def _path_of_key(self, key: str) -> Path:
        path = Path(os.path.normpath(self.directory / key))
        if path != self.directory and self.directory not in path.parents:
            raise ZoetropeError(f"key {key!r} leaves the store {self.directory}", "use a relative key without '..'")
        return path

    def _path_of_uri(self, uri: str) -> Path:
        path = Path(os.path.normpath(unquote(urlsplit(uri).path)))
        if not uri.startswith("file://") or (path != self.directory and self.directory not in path.parents):
            raise ZoetropeError(f"{uri} is outside the store {self.root}", "give a URI of this store")
        return path

    @staticmethod
    def _publish(target: Path, fill: Callable[[Path], None], size: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{target.name}.part-", dir=target.parent)
        os.close(descriptor)
        part = Path(name)
        try:
            fill(part)
            part.chmod(0o644)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(target.parent, size) from error
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def disk_full(directory: Path, needed: int) -> ZoetropeError:
    """The one message for a full disk: what was needed, where, and what is free."""
    free = shutil.disk_usage(directory).free
    return ZoetropeError(
        f"disk full: {needed / 1e6:.1f} MB needed in {directory}, {free / 1e6:.1f} MB free",
        "free some space or choose another place with --store DIR, then run the same command again",
        retryable=True,
    )


def _copy_and_sync(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())
