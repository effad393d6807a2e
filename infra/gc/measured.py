"""Which sources a part of stored measurements is about."""

from __future__ import annotations

from zoetrope.infra.store.content import table_of

SOURCE = "source"


def sources_of(data: bytes) -> list[str]:
    """SHA-256 of the files that a part (Parquet) has rows of."""
    return [str(source) for source in table_of(data)[SOURCE].unique().to_pylist()]
