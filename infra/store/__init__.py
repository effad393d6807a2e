"""The object store: one small port, a local directory and S3 behind it."""

from zoetrope.infra.store.base import Store, open_store
from zoetrope.infra.store.content import (
    get_bytes,
    get_json,
    get_table,
    put_content,
    put_file_content,
    put_json,
    put_table,
)

__all__ = [
    "Store",
    "get_bytes",
    "get_json",
    "get_table",
    "open_store",
    "put_content",
    "put_file_content",
    "put_json",
    "put_table",
]
