"""Content-addressed objects on top of a store: the key is the digest, so equal content is written once."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference, canonical_json, digest_bytes, digest_file

if TYPE_CHECKING:
    import pyarrow

    from zoetrope.infra.store.base import Store


SMALL = 1 << 20
"""Bytes up to which content that is there already is compared, so that a damaged manifest is written anew."""


def content_key(digest: str, suffix: str) -> str:
    """Where content with this SHA-256 lies, e.g. `objects/ab/abcd....json`."""
    return f"objects/{digest[:2]}/{digest}{suffix}"


def put_content(store: Store, data: bytes, suffix: str) -> Reference:
    """Stores bytes under their digest; `suffix` (`.json`, `.mp4`) is for people."""
    digest = digest_bytes(data)
    key = content_key(digest, suffix)
    uri = store.uri(key)
    if not store.exists(uri) or store.size(uri) != len(data) or (len(data) < SMALL and store.read(uri) != data):
        store.put_bytes(key, data)
    return Reference(uri, digest)


def put_file_content(store: Store, path: Path, suffix: str | None = None) -> Reference:
    """Stores a local file under its digest."""
    digest = digest_file(path)
    key = content_key(digest, path.suffix if suffix is None else suffix)
    uri = store.uri(key)
    if not store.exists(uri) or store.size(uri) != path.stat().st_size:
        store.put_file(key, path)
    return Reference(uri, digest)


def put_json(store: Store, value: Any) -> Reference:
    """Stores a value as canonical JSON."""
    return put_content(store, canonical_json(value), ".json")


def put_table(store: Store, table: pyarrow.Table) -> Reference:
    """Stores a table as Parquet; the bytes depend on the table alone."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd", store_schema=False)
    return put_content(store, buffer.getvalue(), ".parquet")


def get_bytes(store: Store, reference: Reference | str) -> bytes:
    """Reads what a reference names and checks its digest."""
    reference = Reference.parse(reference) if isinstance(reference, str) else reference
    data = store.read(reference.uri)
    if digest_bytes(data) != reference.digest:
        raise ZoetropeError(
            f"{reference.uri}: content does not match its digest {reference.digest[:12]}",
            "the object was changed or damaged; delete it and run the step that makes it again",
        )
    return data


def get_json(store: Store, reference: Reference | str) -> Any:
    """Reads JSON through a reference."""
    return json.loads(get_bytes(store, reference))


def get_table(store: Store, reference: Reference | str) -> pyarrow.Table:
    """Reads Parquet through a reference."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(get_bytes(store, reference)))
