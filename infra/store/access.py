"""The one way to open content: what a reference names is compared with its digest before anybody uses it.

Small things are read into memory and hashed each time. Whole files are hashed at first use; that a file of the store
is what its name says is remembered below `checked/` with its size, time and inode, so that it costs once. Parts of
shards have checksums of their own, see `zoetrope.model.data`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference, digest_bytes, digest_file
from zoetrope.infra.store.content import table_of

if TYPE_CHECKING:
    import pyarrow

    from zoetrope.infra.store.base import Store

log = logging.getLogger(__name__)

CHECKED = "checked"
"""Prefix of the notes on files that were compared with their digests; they may be removed at any time."""
SETTLED_SECONDS = 0.1
"""A file that was written within this time is not remembered: its time would not tell a second write."""


def get_bytes(store: Store, reference: Reference | str, made_by: str = "") -> bytes:
    """Reads what a reference names and checks its digest.

    Args:
        store: where it lies.
        reference: what to read.
        made_by: the step that made it, for the message; empty where it is not known.

    Raises:
        ZoetropeError: it is not there, or not what its digest says.
    """
    reference = _parsed(reference)
    data = store.read(reference.uri)
    if digest_bytes(data) != reference.digest:
        raise _damaged(store, reference, made_by)
    return data


def get_json(store: Store, reference: Reference | str, made_by: str = "") -> Any:
    """Reads JSON through a reference."""
    return json.loads(get_bytes(store, reference, made_by))


def get_table(store: Store, reference: Reference | str, made_by: str = "") -> pyarrow.Table:
    """Reads Parquet through a reference."""
    return table_of(get_bytes(store, reference, made_by))


def local_copy(store: Store, reference: Reference | str, folder: Path, made_by: str = "") -> Path:
    """A local file with the content: the store's own where it is on this disk, else fetched into `folder`.

    Args:
        store: where it lies.
        reference: what to open.
        folder: for a copy; made where it is needed. A copy that is there already is used again.
        made_by: the step that made it, for the message; empty where it is not known.

    Raises:
        ZoetropeError: it is not there, or not what its digest says.
    """
    reference = _parsed(reference)
    return _checked_file(store, reference, folder / PurePosixPath(reference.uri).name, made_by)


@contextmanager
def borrowed_copy(store: Store, reference: Reference | str, folder: Path, made_by: str = "") -> Iterator[Path]:
    """The same for a short time: a fetched copy is removed afterwards."""
    path = local_copy(store, reference, folder, made_by)
    try:
        yield path
    finally:
        if store.local_path(_parsed(reference).uri) is None:
            path.unlink(missing_ok=True)


def local_folder(store: Store, files: Mapping[str, str], folder: Path, made_by: str = "") -> Path:
    """A folder of files (name below it -> reference): links into the store where it is on this disk, else copies.

    Raises:
        ZoetropeError: a name leaves the folder, or a file is not there or not what its digest says.
    """
    for name, text in sorted(files.items()):
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ZoetropeError(f"file name {name!r} leaves its folder", "the manifest that holds it was changed")
        target = folder.joinpath(*pure.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        path = _checked_file(store, _parsed(text), target, made_by)
        if path != target and not target.exists():
            target.symlink_to(path)
    return folder


class DamagedContentError(ZoetropeError):
    """Content is not what its digest says.

    Args:
        place: its full URI.
        reference: what was to be read.
        made_by: the step that made it; empty where it is not known.
    """

    def __init__(self, place: str, reference: Reference, made_by: str = "") -> None:
        self.place, self.reference, self.made_by = place, reference, made_by
        step = f"the step `{made_by}`" if made_by else "the step that makes it"
        super().__init__(
            f"{place}: content does not match its digest {reference.digest[:12]}",
            f"the object was changed or damaged: delete it and run {step} again with --fresh",
        )


def _damaged(store: Store, reference: Reference, made_by: str) -> DamagedContentError:
    return DamagedContentError(store.uri(store.key(reference.uri)), reference, made_by)


def _parsed(reference: Reference | str) -> Reference:
    return Reference.parse(reference) if isinstance(reference, str) else reference


def _checked_file(store: Store, reference: Reference, target: Path, made_by: str) -> Path:
    """The store's own file, or `target` with its content; compared with the digest either way."""
    own = store.local_path(reference.uri)
    if own is None:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(reference.uri, target)
        if digest_file(target) != reference.digest:
            target.unlink(missing_ok=True)
            raise _damaged(store, reference, made_by)
        return target
    store.size(reference.uri)  # says so where it is not there
    note = store.local_path(f"{CHECKED}/{store.key(reference.uri)}.json")
    assert note is not None
    state = _state(own)
    if _note(note) == {"digest": reference.digest, **state}:
        return own
    if digest_file(own) != reference.digest:
        raise _damaged(store, reference, made_by)
    if time.time() - own.stat().st_mtime > SETTLED_SECONDS and _state(own) == state:
        _remember(note, {"digest": reference.digest, **state})
    return own


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns, "inode": found.st_ino}


def _note(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _remember(path: Path, value: Mapping[str, Any]) -> None:
    """Nothing depends on it, so it is not synced, and a store that cannot be written is hashed each time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=f"{path.name}.part-", dir=path.parent)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(value, stream)
        Path(part).replace(path)
    except OSError as error:
        log.debug("%s is not remembered as checked: %s", path, error)
