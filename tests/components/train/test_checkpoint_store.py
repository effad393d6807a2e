"""Checkpoints through the artifact store, on S3 and in a folder, and while it is away."""

import errno

import pytest
import torch
from minio import Minio
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from zoetrope.components.train.checkpoint_store import ArtifactCheckpointStore
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.retry import RetryPolicy
from zoetrope.infra.store.local import LocalStore, disk_full
from zoetrope.infra.store.s3 import S3Store
from zoetrope.infra.store.s3_client import S3Settings
from zoetrope.model.training.checkpoints import Checkpoints, Identity, StoreError, TrainingState, UnreadableError

BUCKET = "checkpoints"
FOUR_TRIES = RetryPolicy(attempts=4, longest_wait=0.001)


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    Minio(f"{host}:{port}", "key", "hush", secure=False, region="us-east-1").make_bucket(BUCKET)
    settings = S3Settings(endpoint=f"http://{host}:{port}", access_key="key", secret_key="hush", longest_wait=0)
    yield S3Store(f"s3://{BUCKET}/prefix", settings)
    server.stop()


class Away:
    """A store of which the next calls fail."""

    def __init__(self, store, error):
        self.store, self.error, self.failing, self.calls = store, error, 0, 0

    def __getattr__(self, name):
        def call(*arguments):
            self.calls += 1
            if self.failing:
                self.failing -= 1
                raise self.error
            return getattr(self.store, name)(*arguments)

        return call


def state(value):
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, value)
    return TrainingState(model, notes={"value": value})


def checkpoints(store, told):
    warned = ArtifactCheckpointStore(store, told.append, FOUR_TRIES)
    return Checkpoints(warned, "resume/stage_1", Identity({"a": 1}), warn=told.append)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_is_saved_comes_back_and_old_ones_go(kind, request, tmp_path):
    store = LocalStore(tmp_path) if kind == "folder" else request.getfixturevalue("s3")
    told = []
    saving = checkpoints(store, told)
    for step in (1, 2, 3):
        saving.save(step, state(step))
    saving.finish()
    assert saving.failure is None
    assert {uri.rsplit("/", 2)[1][:14] for uri in store.list("resume/stage_1/")} == {"step-000000002", "step-000000003"}
    found = state(0)
    assert checkpoints(store, told).load_newest(found) == 3
    assert (found.model.weight == 3).all()
    adapter = ArtifactCheckpointStore(store)
    with pytest.raises(UnreadableError, match="is not in the store"):
        adapter.read("resume/none")
    assert told == []
    assert adapter.sizes("resume/stage") == {}, "a prefix is a folder"


GONE = ZoetropeError("s3://b: S3 at http://s does not answer after 5 tries: refused", "check it", retryable=True)


def test_a_store_that_is_away_for_a_while_is_waited_for_and_said_in_save_and_read(tmp_path):
    store, told = Away(LocalStore(tmp_path), GONE), []
    saving = checkpoints(store, told)
    store.failing = 3
    saving.save(1, state(1))
    saving.finish()
    assert saving.failure is None
    assert len(told) == 1
    assert "the store is away (s3://b: S3 at http://s does not answer after 5 tries: refused); trying again" in told[0]
    store.failing = 3
    assert saving.load_newest(state(0)) == 1
    assert len(told) == 2


def test_a_store_that_stays_away_ends_no_training_but_nobody_begins_anew(tmp_path):
    store, told = Away(LocalStore(tmp_path), GONE), []
    saving = checkpoints(store, told)
    store.failing = 10**9
    saving.save(1, state(1))
    saving.finish()
    assert saving.failure == GONE.headline
    assert store.calls == 8, "four tries to write, four to remove what is there"
    with pytest.raises(StoreError, match="does not answer"):
        saving.load_newest(state(0))
    store.failing = 0
    saving.save(2, state(2))
    saving.finish()
    assert saving.failure is None
    assert told[-1] == "checkpoints are written again: that of step 2 is complete"


def test_a_full_disk_is_not_waited_for(tmp_path):
    error = disk_full(tmp_path, 1)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    store, told = Away(LocalStore(tmp_path), error), []
    store.failing = 1
    saving = checkpoints(store, told)
    saving.save(1, state(1))
    saving.finish()
    assert saving.failure.startswith("disk full: ")
    assert len(told) == 1


def test_a_disk_that_cannot_read_one_object_is_damage_of_that_one(tmp_path):
    store = Away(LocalStore(tmp_path), OSError(errno.EIO, "Input/output error"))
    store.failing = 1
    with pytest.raises(UnreadableError, match="a/b: Input/output error"):
        ArtifactCheckpointStore(store, patience=FOUR_TRIES).read("a/b")
