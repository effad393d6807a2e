"""No content is used that is not what its digest says; what was compared once is remembered until it changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import (
    Store,
    access,
    get_bytes,
    get_json,
    local_copy,
    open_store,
    put_content,
    put_json,
    put_table,
)

LONG_AGO = (1, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def file_of(store: Store, uri: str) -> Path:
    path = store.local_path(uri)
    assert path is not None
    return path


def test_bytes_that_were_changed_are_not_read_and_the_message_says_whose_they_are(store: Store) -> None:
    reference = put_json(store, {"clips": 3})
    assert get_json(store, str(reference)) == {"clips": 3}
    file_of(store, reference.uri).write_bytes(b'{"clips":4}')
    with pytest.raises(ZoetropeError, match=f"content does not match its digest {reference.digest[:12]}") as caught:
        get_bytes(store, reference, "curate")
    assert "run the step `curate` again with --fresh" in caught.value.hint


def test_a_file_that_was_changed_is_not_opened_where_the_store_is_on_this_disk(store: Store, tmp_path: Path) -> None:
    reference = put_content(store, b"weights", ".bin")
    path = file_of(store, reference.uri)
    assert local_copy(store, reference, tmp_path / "copies") == path
    path.write_bytes(b"weightz")
    with pytest.raises(ZoetropeError, match="does not match its digest"):
        local_copy(store, reference, tmp_path / "copies")


@pytest.mark.parametrize("before", [b"", b"an earlier copy, half written"])
def test_a_file_that_was_changed_is_not_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    reference = put_content(store, b"weights", ".bin")
    file_of(store, reference.uri).write_bytes(b"weightz")
    copy = tmp_path / "copies" / Path(reference.uri).name
    if before:
        copy.parent.mkdir()
        copy.write_bytes(before)
    monkeypatch.setattr(type(store), "local_path", lambda store, uri: None)
    with pytest.raises(ZoetropeError, match="does not match its digest"):
        local_copy(store, reference, tmp_path / "copies")
    assert not copy.exists()


def test_a_file_is_compared_once_and_again_when_its_time_changes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = put_content(store, b"weights", ".bin")
    path = file_of(store, reference.uri)
    os.utime(path, LONG_AGO)
    hashed: list[Path] = []
    real = access.digest_file

    def noted(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(access, "digest_file", noted)
    for _ in range(2):
        assert local_copy(store, reference, tmp_path) == path
    assert hashed == [path]
    path.write_bytes(b"weightz")  # the same length, in the same file
    os.utime(path, (2, 2))
    with pytest.raises(ZoetropeError, match="does not match its digest"):
        local_copy(store, reference, tmp_path)


READS = """
import sys
from zoetrope.infra.store import get_table, open_store
print(get_table(open_store(sys.argv[1]), sys.argv[2]).num_rows)
"""


def test_a_process_that_ends_after_it_read_a_table_ends_well(store: Store, tmp_path: Path) -> None:
    table = pyarrow.table({name: [f"{name}{row}" for row in range(500)] for name in "abcdefghijklmnop"})
    command = [sys.executable, "-c", READS, str(tmp_path / "store"), str(put_table(store, table))]
    for _ in range(6):  # with Arrow's threads about two of three abort
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "500\n", "")
