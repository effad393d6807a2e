"""The port to the object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store.schemes import LOCAL, scheme_of

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_KNOWN_PLACE = re.compile(
    r"/(?P<key>objects/[0-9a-f]{2}/[0-9a-f]{64}[^/]*|dvc/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir)?)\Z"
)
"""The end of a URI whose name is the digest of its content, wherever the store lies."""


@dataclass(frozen=True)
class StoredObject:
    """What a store knows of an object without reading it.

    Attributes:
        key: relative to the root.
        bytes: its length.
        modified: when it was written or touched last, seconds since the epoch.
    """

    key: str
    bytes: int
    modified: float


class Store(Protocol):
    """A tree of immutable objects below one root URI.

    A **location** is what references hold: the key (relative to the root, forward slashes, as it is), or an absolute
    URI of this store, which outside readers need (MLflow, DVC, people) and older manifests hold. Keys are what new
    manifests hold, so that a store can be moved or copied. An absolute URI of another place is taken for ours where
    its end is a content address (`objects/ab/abcd...`): the store was moved, and its digest says whether it is so.
    A put is atomic: readers see all of it or nothing.
    """

    root: str

    def uri(self, key: str) -> str:
        """The URI of `key`; raises ZoetropeError for a key that leaves the root."""
        ...

    def key(self, location: str) -> str:
        """The inverse: the key of a location; raises ZoetropeError for one of another place."""
        ...

    def put_bytes(self, key: str, data: bytes) -> str:
        """Writes `data` and returns its URI."""
        ...

    def put_file(self, key: str, path: Path) -> str:
        """Copies a local file into the store and returns its URI (multipart where it is large)."""
        ...

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, to the end when `length` is None. Raises ZoetropeError if it is not there."""
        ...

    def size(self, location: str) -> int:
        """Number of bytes; raises ZoetropeError if it is not there."""
        ...

    def stat(self, location: str) -> StoredObject | None:
        """What is known of the object; None if it is not there."""
        ...

    def exists(self, location: str) -> bool:
        """Whether there is such an object."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """URIs of all objects whose key begins with `prefix`, sorted."""
        ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with `prefix`, page by page, in the store's own order."""
        ...

    def fetch(self, location: str, path: Path) -> Path:
        """Copies the object to the local file `path` (atomically) and returns `path`."""
        ...

    def touch(self, location: str) -> bool:
        """Makes the object as young as one that is written now; False if it is not there."""
        ...

    def delete(self, location: str) -> None:
        """Removes the object; nothing happens if it is not there."""
        ...

    def local_path(self, location: str) -> Path | None:
        """The local file behind a location, or None where the store is not on this machine's disk."""
        ...

    def dvc_options(self) -> dict[str, str]:
        """What DVC has to be told about this store beside its URL; nothing secret."""
        ...


def open_store(root: str | Path) -> Store:
    """The store below `root`: a path, or a URI of a scheme in `schemes.SCHEMES`."""
    text = str(root)
    store: Store = import_module(scheme_of(text).module).open_root(text)
    return store


def is_absolute(location: str) -> bool:
    """Whether a location is a URI and not a key."""
    return _ABSOLUTE.match(location) is not None


def checked_key(key: str, root: str) -> str:
    """The key itself, without a slash at its end.

    Raises:
        ZoetropeError: it is empty, absolute, or holds `..`.
    """
    inner = key.removesuffix("/")
    if not inner or any(piece in ("", ".", "..") for piece in inner.split("/")):
        raise ZoetropeError(f"key {key!r} leaves the store {root} or is empty", "use a relative key without '..'")
    return inner


def moved_key(uri: str, root: str) -> str:
    """The key of content that a URI of another place names.

    Raises:
        ZoetropeError: its name is not the digest of its content.
    """
    parts = urlsplit(uri)
    match = _KNOWN_PLACE.search(unquote(parts.path) if parts.scheme == LOCAL else parts.path)
    if match is None:
        raise ZoetropeError(f"{uri} is outside the store {root}", "give a URI of this store")
    return match["key"]
