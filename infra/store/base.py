"""The port to the object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from zoetrope.infra.errors import ZoetropeError


class Store(Protocol):
    """A tree of immutable objects below one root URI.

    Keys are relative, with forward slashes; URIs are absolute. A put is atomic: readers see all of it or nothing.
    """

    root: str

    def uri(self, key: str) -> str:
        """The URI of `key`; raises ZoetropeError for a key that leaves the root."""
        ...

    def put_bytes(self, key: str, data: bytes) -> str:
        """Writes `data` and returns its URI."""
        ...

    def put_file(self, key: str, path: Path) -> str:
        """Copies a local file into the store and returns its URI (multipart where it is large)."""
        ...

    def read(self, uri: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, to the end when `length` is None. Raises ZoetropeError if it is not there."""
        ...

    def size(self, uri: str) -> int:
        """Number of bytes at `uri`."""
        ...

    def exists(self, uri: str) -> bool:
        """Whether there is an object at `uri`."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """URIs of all objects whose key begins with `prefix`, sorted."""
        ...

    def fetch(self, uri: str, path: Path) -> Path:
        """Copies the object to the local file `path` (atomically) and returns `path`."""
        ...

    def delete(self, uri: str) -> None:
        """Removes the object; nothing happens if it is not there."""
        ...

    def local_path(self, uri: str) -> Path | None:
        """The local file behind `uri`, or None where the store is not on this machine's disk."""
        ...


def open_store(root: str | Path) -> Store:
    """The store below `root`: a path, `file:///...` or `s3://bucket/prefix`."""
    text = str(root)
    scheme = urlsplit(text).scheme if "://" in text else "file"
    if scheme == "file":
        from zoetrope.infra.store.local import LocalStore

        path = Path(unquote(urlsplit(text).path)) if "://" in text else Path(text)
        return LocalStore(path)
    if scheme == "s3":
        from zoetrope.infra.store.s3 import S3Store

        return S3Store(text)
    raise ZoetropeError(f"store {text!r}: unknown scheme {scheme!r}", "use a path, file:///... or s3://bucket/prefix")
