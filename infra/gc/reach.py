"""What roots reach: references in texts, JSON manifests and columns of tables, followed to their ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoetrope.infra.datasets.layout import shard_key
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, borrowed_copy, get_bytes

_REFERENCE = re.compile(rb"(?P<suffix>\.json|\.parquet)?@sha256:(?P<digest>[0-9a-f]{64})")
_SHARD = re.compile(rb"dvc/files/md5/(?P<md5>[0-9a-f]{2}/[0-9a-f]{30})")
AT_ONCE = 16
"""Manifests that are read at the same time."""


def named(text: bytes) -> set[tuple[str, str]]:
    """(digest, suffix) of every reference in a text, absolute or relative; the suffix where it names more."""
    found = _REFERENCE.finditer(text)
    return {(each["digest"].decode(), (each["suffix"] or b"").decode()) for each in found}


def named_shards(text: bytes) -> set[str]:
    """Keys of the shards in a text."""
    return {shard_key(each["md5"].decode().replace("/", "")) for each in _SHARD.finditer(text)}


class Reached:
    """All content that was reached so far.

    Args:
        store: where it lies.
        scratch: folder for copies of tables.
    """

    def __init__(self, store: Store, scratch: Path) -> None:
        self._store, self._scratch = store, scratch
        self._digests: set[bytes] = set()
        self._read: set[tuple[str, str]] = set()
        self.shards: set[str] = set()

    def __contains__(self, digest: str) -> bool:
        return bytes.fromhex(digest) in self._digests

    def follow(self, texts: Iterable[bytes]) -> None:
        """Takes all that texts name, and what that names.

        Raises:
            ZoetropeError: a manifest that is reached is damaged, so nobody knows what it names.
        """
        waiting: set[tuple[str, str]] = set()
        for text in texts:
            waiting |= self._take(text)
        with ThreadPoolExecutor(AT_ONCE, "reach") as pool:
            while waiting:
                self._read |= waiting
                waiting = set().union(*(self._take(text) for text in pool.map(self._text, sorted(waiting))))

    def _take(self, text: bytes) -> set[tuple[str, str]]:
        """What a text names that has to be read and was not."""
        found = named(text)
        self._digests.update(bytes.fromhex(digest) for digest, _ in found)
        self.shards |= named_shards(text)
        return {each for each in found if each[1] and each not in self._read}

    def _text(self, content: tuple[str, str]) -> bytes:
        """All of a manifest, or the references in a table; nothing where it is gone already."""
        digest, suffix = content
        reference = Reference(f"objects/{digest[:2]}/{digest}{suffix}", digest)
        if not self._store.exists(reference.uri):
            return b""
        if suffix == ".json":
            return get_bytes(self._store, reference)
        with borrowed_copy(self._store, reference, self._scratch) as path:
            return b"\n".join(_references(path))


def _references(path: Path) -> Iterator[bytes]:
    """The different values of all text columns of a table that hold references."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(path)
    texts = [field.name for field in table.schema_arrow if pyarrow.types.is_string(field.type)]
    for batch in table.iter_batches(columns=texts) if texts else ():
        for column in batch.columns:
            chosen = column.filter(pyarrow.compute.match_substring(column, "@sha256:"))
            yield from (value.encode() for value in chosen.unique().to_pylist())
