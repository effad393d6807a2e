"""The object store: one small port, one module for each kind of place behind it."""

from zoetrope.infra.store.access import borrowed_copy, get_bytes, get_json, get_table, local_copy, local_folder
from zoetrope.infra.store.base import Store, StoredObject, open_store
from zoetrope.infra.store.content import mark_used, put_content, put_file_content, put_json, put_once, put_table

__all__ = [
    "Store",
    "StoredObject",
    "borrowed_copy",
    "get_bytes",
    "get_json",
    "get_table",
    "local_copy",
    "local_folder",
    "mark_used",
    "open_store",
    "put_content",
    "put_file_content",
    "put_json",
    "put_once",
    "put_table",
]
