"""Garbage collection: what a run, a version or a model needs stays, the rest goes, at whatever moment it is killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from typer.testing import CliRunner

from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.datasets.layout import shard_key
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.gc import Collection, Places, collect_garbage
from zoetrope.infra.gc.roots import ROOTS
from zoetrope.infra.ledger.open_runs import note_open_run
from zoetrope.infra.processes import RunLock
from zoetrope.infra.references import Reference
from zoetrope.infra.store import (
    Store,
    get_bytes,
    get_json,
    get_table,
    open_store,
    put_content,
    put_json,
    put_once,
    put_table,
)
from zoetrope.pipelines.cli.main import app

DAY = 86_400.0
WEEK = 7 * DAY


class Run:
    """What a run leaves: footage that all runs share, a dataset, a checkpoint, videos, records and an answer."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        videos = [put_content(store, f"film {number}".encode(), ".mp4") for number in range(2)]
        own = put_content(store, f"film of {name}".encode(), ".mp4")
        table = pyarrow.Table.from_pylist([{"name": str(each), "video": str(each), "n": 1} for each in [*videos, own]])
        sources = put_json(store, {"schema": "zoetrope.sources.v1", "table": str(put_table(store, table))})
        self.source = own.digest
        rows = pyarrow.Table.from_pylist([{"clip_id": "c", "bucket": "b", "shard": 0, "caption": name}])
        index = put_table(store, rows)
        data = f"tensors of {name}".encode()
        md5 = hashlib.md5(data).hexdigest()
        self.shard = shard_key(md5)
        put_once(store, self.shard, len(data), lambda: store.put_bytes(self.shard, data))
        shard = {"path": "shards/00000.safetensors", "md5": md5, "sha256": hashlib.sha256(data).hexdigest()}
        dataset = {
            "schema": "zoetrope.dataset.v1", "name": "tiny", "digest": hashlib.sha256(name.encode()).hexdigest(),
            "shards": [{**shard, "bytes": len(data), "samples": 1, "uri": self.shard}], "index": str(index),
            "captions": str(put_json(store, {"clips": str(sources), "by": name})),
        }  # fmt: skip
        self.dataset = str(put_json(store, dataset))
        weights = put_content(store, f"weights of {name}".encode(), ".safetensors")
        self.checkpoint = str(put_json(store, {"weights": str(weights), "dataset": self.dataset}))
        self.report = put_content(store, f"report of {name}".encode(), ".html")
        record = {"product": self.checkpoint, "artifacts": {"report": str(self.report)}, "run_id": name}
        self.record = str(put_json(store, record))
        # what the step wrote into the folder of its run; the answer alone names it
        self.file = put_content(store, f"file of {name}".encode(), "")
        answer = json.dumps(
            {"schema": "zoetrope.result.v1", "record": self.record, "product": self.checkpoint,
             "files": {"dataset.dvc": str(self.file)}}
        )  # fmt: skip
        self.answer = f"results/stage_1/{hashlib.sha256(name.encode()).hexdigest()}.json"
        store.put_bytes(self.answer, answer.encode())
        store.put_bytes(f"training/{name}/stage_1-0.json", json.dumps({"weights": str(weights)}).encode())
        store.put_bytes(f"fanout/{name}/results/000000000.json", json.dumps({"shard": self.shard}).encode())
        store.put_bytes(f"resume/stage_1-{name}/step-1-00/complete.json", b"{}")
        store.put_bytes(f"ledger/{name}/stage_1.1.jsonl", b"held\n")
        part = pyarrow.Table.from_pylist([{"source": self.source, "value": 1.0}])
        reference = put_table(store, part)
        self.measured = f"measurements/motion/0/{reference.digest}.parquet"
        store.put_bytes(self.measured, store.read(reference.uri))

    def load(self) -> None:
        """Reads everything that the checkpoint names, its dataset included."""
        get_bytes(self.store, get_json(self.store, self.checkpoint)["weights"])
        self.load_dataset()

    def load_dataset(self) -> None:
        """Reads everything that the dataset names."""
        dataset = get_json(self.store, self.dataset)
        captions = get_json(self.store, dataset["captions"])
        table = get_table(self.store, get_json(self.store, captions["clips"])["table"])
        for video in table["video"].to_pylist():
            get_bytes(self.store, video)
        get_table(self.store, dataset["index"])
        assert self.store.size(dataset["shards"][0]["uri"]) == dataset["shards"][0]["bytes"]

    def is_answered(self) -> bool:
        return self.store.exists(self.answer)

    def write_local(self, state: Path) -> None:
        folder = state / "runs" / self.name
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text("{}")
        (folder / "events.jsonl").write_text(json.dumps({"event": "finished", "record": self.record}) + "\n")


class World:
    """Run `a` is kept, of `b` the version is adopted, of `c` the model is registered, `d` was deleted."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.state, self.folder = store, folder / "state", folder
        self.a, self.b, self.c, self.d = (Run(store, name) for name in "abcd")
        self.a.write_local(self.state)
        DatasetRegistry(self.state / "datasets", store).adopt(self.b.dataset, "b")
        store.put_bytes("dvc/files/md5/00/000000000000000000000000000000", b"somebody else's, in the same DVC remote")

    def age(self, days: float, prefix: str = "") -> None:
        for found in self.store.objects(prefix):
            path = self.store.local_path(found.key)
            assert path is not None
            os.utime(path, (time.time() - days * DAY,) * 2)

    def collect(self, older_than: float = WEEK, store: Any = None, **more: Any) -> Collection:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return collect_garbage(Places(store or self.store, scratch, self.state, "", "models"), older_than, **more)

    def load_what_is_rooted(self) -> None:
        self.a.load()
        self.b.load_dataset()
        self.c.load()

    def keys(self) -> set[str]:
        return {found.key for found in self.store.objects("") if not found.key.startswith("checked/")}


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is registered."""
    registered: list[Any] = []
    registry = SimpleNamespace(names=lambda: ["tiny"], versions=lambda name: registered)
    monkeypatch.setattr("zoetrope.infra.tracking.ModelRegistry", lambda uri: registry)
    return registered


@pytest.fixture
def world(tmp_path: Path, models: list[Any]) -> World:
    made = World(open_store(tmp_path / "store"), tmp_path)
    models.append(SimpleNamespace(checkpoint=Reference.parse(made.c.checkpoint), tags={"dataset": made.c.dataset}))
    made.age(10)
    return made


def test_versions_and_models_load_and_the_rest_is_freed(world: World) -> None:
    before = world.keys()
    dry = world.collect(dry_run=True)
    assert world.keys() == before
    done = world.collect()
    world.load_what_is_rooted()
    gone = before - world.keys()
    assert {key.split("/")[0] for key in gone} == {
        "objects", "dvc", "results", "measurements", "training", "fanout", "resume",
    }  # fmt: skip
    for key in (world.d.shard, world.d.answer, world.d.measured, world.d.report.uri):
        assert key in gone
    assert Reference.parse(world.d.checkpoint).uri in gone
    # what stays is still the result of its key: the whole run's checkpoint, and the registered one
    for run in (world.a, world.c):
        assert run.is_answered()
        assert get_json(world.store, run.record)["run_id"] == run.name
        assert get_bytes(world.store, run.file) == f"file of {run.name}".encode()
    assert not world.b.is_answered(), "its dataset stays, its checkpoint does not"
    left = world.keys()
    assert {key for key in before if key.startswith("ledger/")} <= left
    assert "dvc/files/md5/00/000000000000000000000000000000" in left
    assert done.removed == dry.removed
    assert sum(count for count, _ in done.removed.values()) == len(gone)
    assert world.collect().removed == {}


def test_a_damaged_answer_does_not_stop_it(world: World) -> None:
    for number, text in enumerate((b"", b"[1]", b'{"product": 1}')):
        world.store.put_bytes(f"results/stage_1/{number:064d}.json", text)
    world.age(10)
    world.collect()
    assert world.a.is_answered()
    assert not world.d.is_answered()


def test_on_s3_as_well(s3_store: Store, tmp_path: Path, models: list[Any]) -> None:
    world = World(s3_store, tmp_path)
    models.append(SimpleNamespace(checkpoint=Reference.parse(world.c.checkpoint), tags={}))
    s3_store.put_bytes("runs/d/steps/stage_1.json", json.dumps({"record": world.d.record}).encode())
    everything_is_old = -2.0  # moto counts whole seconds
    world.collect(older_than=everything_is_old)
    world.load_what_is_rooted()
    world.d.load()
    assert not world.b.is_answered()
    s3_store.delete("runs/d/steps/stage_1.json")
    assert s3_store.touch(world.d.report.uri)
    world.collect(older_than=everything_is_old)
    world.load_what_is_rooted()
    assert not s3_store.exists(world.d.shard)
    assert not s3_store.exists(world.d.report.uri)
    assert not s3_store.touch(world.d.report.uri)


def test_what_is_young_or_used_again_stays_with_all_that_it_names(world: World) -> None:
    assert world.store.touch(Reference.parse(world.d.checkpoint).uri)
    world.collect()
    world.d.load()
    assert world.d.is_answered(), "its product stays, so it is still the result of its key"
    world.age(10)
    again = put_content(world.store, b"weights of d", ".safetensors")  # a run makes the same weights
    world.collect()
    assert world.store.exists(again.uri)
    assert not world.store.exists(world.d.shard)


def test_a_shard_stays_while_one_of_the_datasets_that_name_it_stays(world: World) -> None:
    """A dataset that nobody needs goes; its shards go unless another one has them too."""
    kept = get_json(world.store, world.b.dataset)
    other = Reference.parse(str(put_json(world.store, {**kept, "name": "the same tensors, another name"})))
    world.age(10)
    world.collect()
    assert not world.store.exists(other.uri)
    world.b.load_dataset()


class Busy:
    """A store in which an object is used again just before it would be removed."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def stat(self, location: str) -> Any:
        if location == self._key:
            self._store.touch(location)
        return self._store.stat(location)


def test_what_is_used_again_while_it_works_stays(world: World) -> None:
    used = world.d.report.uri
    world.collect(store=Busy(world.store, used))
    assert world.store.exists(used)
    assert not world.store.exists(world.d.shard)


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """A store whose process is killed at its n-th removal."""

    def __init__(self, store: Store, lives: int) -> None:
        self._store, self.lives = store, lives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def delete(self, location: str) -> None:
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        self._store.delete(location)


def test_killed_at_any_removal_it_does_no_harm_and_the_next_pass_frees_the_rest(
    world: World, tmp_path: Path, models: list[Any]
) -> None:
    template = tmp_path / "template"
    shutil.copytree(tmp_path / "store", template)
    world.collect()
    expected = world.keys()
    lives, killed = 0, True
    while killed:
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(template, tmp_path / "store")
        try:
            world.collect(store=Dying(world.store, lives))
            killed = False
        except Killed:
            world.load_what_is_rooted()
            for run in (world.a, world.b, world.c, world.d):
                if run.is_answered():
                    run.load()
            world.collect()
        assert world.keys() == expected
        lives += 5
    assert lives > 20


def test_beside_an_open_run_what_it_may_use_stays(world: World) -> None:
    with RunLock(world.state, "zoetrope run nano"):
        with pytest.raises(ZoetropeError, match=r"a run is open \(zoetrope run nano \(pid \d+\)\)"):
            world.collect(older_than=DAY)
        assert any("nano" in name for name in world.collect().open_runs)
    assert not world.store.exists(world.d.shard), "what was old when it began goes"
    assert world.collect(older_than=DAY).open_runs == {}


def test_what_was_written_since_an_open_run_began_stays(world: World) -> None:
    world.store.put_bytes("runs/d/plan.json", json.dumps({"started": time.time() - 20 * DAY}).encode())
    note_open_run(world.store, "team", "d", "workflow")
    assert world.collect().removed == {}
    world.store.delete("ledger-open/team/d.json")
    world.store.put_bytes("ledger/d/budget/job.1.jsonl", b"reserved\n")
    assert world.collect().removed == {}, "its reservation is open"
    world.store.put_bytes("ledger/d/budget/job.1.settled.jsonl", b"settled\n")
    assert world.collect().removed != {}


def test_a_root_that_cannot_be_read_stops_it_before_anything_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(places: Places) -> Any:
        raise ZoetropeError("MLflow does not answer", retryable=True)
        yield b""

    before = world.keys()
    with monkeypatch.context() as broken, pytest.raises(ZoetropeError, match="MLflow does not answer"):
        broken.setattr("zoetrope.infra.gc.collector.ROOTS", {**ROOTS, "models": away})
        world.collect()
    path = world.store.local_path(Reference.parse(world.a.dataset).uri)
    assert path is not None
    path.write_bytes(path.read_bytes().replace(b"tiny", b"Tiny"))
    with pytest.raises(ZoetropeError, match="does not match its digest"):
        world.collect()
    assert world.keys() == before


def test_the_command_says_what_it_frees(world: World) -> None:
    shutil.move(world.folder / "store", world.state / "store")
    runner = CliRunner()
    command = ["store", "gc", "--store", str(world.state), "--dry-run"]
    said = runner.invoke(app, [*command, "--json"])
    found = json.loads(said.stdout)
    assert found["removed"]["shards"] == {"objects": 2, "bytes": len("tensors of c") * 2}
    assert found["bytes"] == sum(kind["bytes"] for kind in found["removed"].values())
    said = runner.invoke(app, command, env={"ZOETROPE_STORE": "s3://bucket/x"})
    assert isinstance(said.exception, ZoetropeError)
    assert said.exception.headline == "store gc: the data registry of the cluster is not named"
