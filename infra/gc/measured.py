"""Which sources a part of stored measurements is about."""

from __future__ import annotations

import io

SOURCE = "source"


def sources_of(data: bytes) -> list[str]:
    """SHA-256 of the files that a part (Parquet) has rows of."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data), columns=[SOURCE])
    return [str(source) for source in table[SOURCE].unique().to_pylist()]
