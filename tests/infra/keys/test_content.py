"""Digests of the user's own files: content and names count, the place does not, and hashing costs once."""

import os
from pathlib import Path

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.keys import content
from zoetrope.infra.keys.content import ContentDigests
from zoetrope.infra.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def footage(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"a")
    (folder / "deep" / "b.mp4").write_bytes(b"b")
    (folder / "out.mp4").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe.mp4")
    return folder


def test_names_and_bytes_count_and_the_place_does_not(tmp_path: Path, store: Store) -> None:
    digests = ContentDigests(store)
    first = footage(tmp_path / "one")
    known = digests.of(first)
    assert digests.of(footage(tmp_path / "two")) == known
    (first / "a.mp4").rename(first / "c.mp4")
    renamed = digests.of(first)
    (first / "c.mp4").write_bytes(b"A")
    assert len({known, renamed, digests.of(first)}) == 3
    (tmp_path / "two" / "out.mp4").unlink()
    assert digests.of(tmp_path / "two") != known


def test_a_file_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "flux.safetensors"
    path.write_bytes(b"1")
    os.utime(path, (1, 1))
    known = ContentDigests(store).of(path)
    hashed: list[Path] = []
    real = content.digest_file

    def noted(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(content, "digest_file", noted)
    assert ContentDigests(store).of(path) == known
    assert hashed == []
    path.write_bytes(b"2")
    os.utime(path, (2, 2))
    assert ContentDigests(store).of(path) != known
    assert hashed == [path]


def test_what_is_not_there_is_named_and_a_damaged_memory_is_none(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ZoetropeError, match="nowhere: No such file"):
        ContentDigests(store).of(tmp_path / "nowhere")
    memory = store.local_path(store.put_bytes(content.MEMORY, b"{"))
    assert memory is not None
    (tmp_path / "x").write_bytes(b"x")
    assert ContentDigests(store).of(tmp_path / "x") == ContentDigests(None).of(tmp_path / "x")
