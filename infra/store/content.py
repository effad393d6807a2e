"""Content-addressed objects on top of a store: the key is the digest, so equal content is written once.

References that are written here are relative to the store: a store may be moved or copied, and equal content gives
equal manifests, wherever it was made.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.references import Reference, canonical_json, digest_bytes, digest_file

if TYPE_CHECKING:
    import pyarrow

    from zoetrope.infra.store.base import Store, StoredObject

REFRESHED_SECONDS = 86_400.0
"""Content that is put again and is older than this is touched: garbage collection spares what is young."""

SMALL = 1 << 20
"""Bytes up to which content that is there already is compared, so that a damaged manifest is written anew."""


def content_key(digest: str, suffix: str) -> str:
    """Where content with this SHA-256 lies, e.g. `objects/ab/abcd....json`."""
    return f"objects/{digest[:2]}/{digest}{suffix}"


def put_content(store: Store, data: bytes, suffix: str) -> Reference:
    """Stores bytes under their digest; `suffix` (`.json`, `.mp4`) is for people."""
    digest = digest_bytes(data)
    key = content_key(digest, suffix)

    def is_damaged() -> bool:
        return len(data) < SMALL and store.read(key) != data

    put_once(store, key, len(data), lambda: store.put_bytes(key, data), is_damaged)
    return Reference(key, digest)


def put_file_content(store: Store, path: Path, suffix: str | None = None) -> Reference:
    """Stores a local file under its digest."""
    digest = digest_file(path)
    key = content_key(digest, path.suffix if suffix is None else suffix)
    put_once(store, key, path.stat().st_size, lambda: store.put_file(key, path))
    return Reference(key, digest)


def put_once(
    store: Store,
    key: str,
    size: int,
    write: Callable[[], object],
    is_damaged: Callable[[], bool] = lambda: False,
) -> None:
    """Writes what is not there, or not with this length; what is there is marked as in use.

    Args:
        store: where to.
        key: names the content, so that equal keys are equal content.
        size: bytes of the content.
        write: puts it.
        is_damaged: asked where it is there with this length.
    """
    known = store.stat(key)
    if known is None or known.bytes != size or is_damaged() or not _young(store, known):
        write()


def mark_used(store: Store, location: str) -> bool:
    """Makes content young again where it is not: garbage collection spares it, and what it names.

    Returns:
        Whether it is there.
    """
    known = store.stat(location)
    return known is not None and _young(store, known)


def _young(store: Store, known: StoredObject) -> bool:
    return time.time() - known.modified <= REFRESHED_SECONDS or store.touch(known.key)


def put_json(store: Store, value: Any) -> Reference:
    """Stores a value as canonical JSON."""
    return put_content(store, canonical_json(value), ".json")


def put_table(store: Store, table: pyarrow.Table) -> Reference:
    """Stores a table as Parquet; the bytes depend on the table alone."""
    return put_content(store, parquet_of(table), ".parquet")


def parquet_of(table: pyarrow.Table) -> bytes:
    """A table as Parquet; the bytes depend on the table alone."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def table_of(data: bytes, schema: pyarrow.Schema | None = None) -> pyarrow.Table:
    """A table from Parquet, of its own schema or of the one given.

    Without Arrow's threads: one that lets go of Python's bytes while the interpreter ends aborts the process, after all
    work is done ("terminate called without an active exception", in most processes that end soon after a read).
    """
    import pyarrow.parquet

    source = pyarrow.BufferReader(data)
    return pyarrow.parquet.read_table(source, schema=schema, use_threads=False, pre_buffer=False)
