"""Training states in the store: complete or not there, checked before they are taken, two of them kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoetrope.components.train.checkpoint_sync import CheckpointSync
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, open_store


class Failing:
    """A store that takes a number of objects and then no more."""

    def __init__(self, store: Store, puts: int) -> None:
        self._store, self._puts = store, puts

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_file(self, key: str, path: Path) -> str:
        return self._put(lambda: self._store.put_file(key, path))

    def put_bytes(self, key: str, data: bytes) -> str:
        return self._put(lambda: self._store.put_bytes(key, data))

    def _put(self, put):  # type: ignore[no-untyped-def]
        if not self._puts:
            raise ZoetropeError("the store is away", retryable=True)
        self._puts -= 1
        return put()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def state(folder: Path, step: int, content: str) -> None:
    path = folder / f"step-{step:09d}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(f"model {content}")
    (path / "state.json").write_text(content)


def pulled(store: Store, folder: Path, told: list[str] | None = None) -> dict[str, str]:
    CheckpointSync(store, "resume/x", (told if told is not None else []).append).pull(folder)
    return {path.name: (path / "state.json").read_text() for path in sorted(folder.glob("step-*"))}


def steps(store: Store) -> list[str]:
    return sorted({uri.split("/")[-2].rpartition("-")[0] for uri in store.list("resume/x/")})


def test_the_newest_complete_state_wins_and_the_one_before_it_stays(store: Store, tmp_path: Path) -> None:
    sync = CheckpointSync(store, "resume/x")
    assert pulled(store, tmp_path / "nothing") == {}
    assert not (tmp_path / "nothing").exists()
    for step in (2, 4, 6):
        state(tmp_path / "a", step, str(step))
        sync.push(tmp_path / "a")
    assert steps(store) == ["step-000000004", "step-000000006"]
    state(tmp_path / "b", 5, "another run of the same work, further behind")
    sync.push(tmp_path / "b")
    store.put_bytes("resume/x/step-000000009-00/state.json", b"half")
    assert pulled(store, tmp_path / "c") == {"step-000000006": "6"}
    sync.clear()
    assert list(store.list("resume/x/")) == []


@pytest.mark.parametrize("puts", [0, 1, 2])
def test_a_state_that_was_half_written_is_not_seen(store: Store, tmp_path: Path, puts: int) -> None:
    state(tmp_path / "a", 2, "two")
    CheckpointSync(store, "resume/x").push(tmp_path / "a")
    state(tmp_path / "a", 4, "four")
    with pytest.raises(ZoetropeError, match="away"):
        CheckpointSync(Failing(store, puts), "resume/x").push(tmp_path / "a")  # type: ignore[arg-type]
    assert not [uri for uri in store.list("resume/x/step-000000004") if uri.endswith("complete.json")]
    assert pulled(store, tmp_path / "b") == {"step-000000002": "two"}


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "complete.json"])
def test_a_damaged_newest_state_falls_back_to_the_one_before_and_says_so(
    store: Store, tmp_path: Path, name: str
) -> None:
    for step in (2, 4):
        state(tmp_path / "a", step, str(step))
        CheckpointSync(store, "resume/x").push(tmp_path / "a")
    (uri,) = [uri for uri in store.list("resume/x/step-000000004") if uri.endswith(name)]
    data = bytearray(store.read(uri))
    data[-1] ^= 1
    store.put_bytes(store.key(uri), bytes(data))
    told: list[str] = []
    assert pulled(store, tmp_path / "b", told) == {"step-000000002": "2"}
    assert told == [
        f"training state step-000000004 in the store is damaged ({name}); the one before it is taken",
    ]


def test_a_damaged_state_on_the_disk_is_fetched_again(store: Store, tmp_path: Path) -> None:
    state(tmp_path / "a", 4, "four")
    CheckpointSync(store, "resume/x").push(tmp_path / "a")
    damaged = tmp_path / "a" / "step-000000004" / "model.safetensors"
    damaged.write_text("model fouR")
    assert pulled(store, tmp_path / "a") == {"step-000000004": "four"}
    assert damaged.read_text() == "model four"
