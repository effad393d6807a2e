"""One open dataset with several buckets, read from local files or in parallel through the port."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.data.datasets import Objects, flipped, write_clips
from zoetrope.model.data import DamagedDataError, LatentDataset, LatentSample, collate

SHAPES = {"8px_1f": (2, 1, 3, 3), "8px_16f": (2, 4, 3, 3), "8x16px_16f": (2, 4, 3, 6)}
CLIPS = {
    "b": ["8px_1f"],
    "a": ["8px_16f", "8px_1f"],
    "d": ["8px_16f", "8x16px_16f", "8px_1f"],
    "c": ["8x16px_16f"],
}
World = tuple[Path, dict[str, Any], dict[str, Tensor]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.getbasetemp() / "buckets"
    return folder, *write_clips(folder, CLIPS, SHAPES, clips_per_shard=3)


@pytest.fixture
def world(whole: World, tmp_path: Path) -> World:
    """A copy that a test may damage."""
    shutil.copytree(whole[0], tmp_path / "data")
    return tmp_path / "data", whole[1], whole[2]


def require_equal(sample: LatentSample, tensors: dict[str, Tensor]) -> None:
    place = f"{sample.clip_id}/{sample.bucket}"
    found = {"latent": sample.latent, **sample.references}
    assert set(found) == {"latent", "head", "tail"}
    assert all(torch.equal(tensor, tensors[f"{place}/{name}"]) for name, tensor in found.items())
    assert torch.equal(sample.t5, tensors[f"{sample.clip_id}/t5"])
    assert torch.equal(sample.clip, tensors[f"{sample.clip_id}/clip"])
    assert sample.caption == f"caption of {sample.clip_id}"


@pytest.mark.parametrize("place", ["port", "local"])
def test_samples_of_several_buckets_come_in_the_order_asked_for(whole: World, place: str) -> None:
    folder, manifest, tensors = whole
    objects = Objects(folder)
    local = (lambda uri: folder / uri) if place == "local" else None
    with LatentDataset.open(manifest, objects.read, list(SHAPES), local=local) as dataset:
        assert (len(dataset), dataset.buckets) == (4, tuple(SHAPES))
        assert dataset.clip_ids == ("a", "b", "c", "d")
        assert {bucket: dataset.rows(bucket).tolist() for bucket in SHAPES} == {
            "8px_1f": [0, 1, 3],
            "8px_16f": [0, 3],
            "8x16px_16f": [2, 3],
        }
        assert dataset.t5_tokens.tolist() == [2, 1, 4, 3]
        assert dataset.latent_shape("8x16px_16f") == SHAPES["8x16px_16f"]
        objects.reads.clear()
        asked = [(3, "8px_1f"), (1, "8px_1f"), (3, "8x16px_16f"), (2, "8x16px_16f"), (3, "8px_1f")]
        samples = dataset.fetch(asked)
        assert [(sample.row, sample.bucket) for sample in samples] == asked
        assert [sample.clip_id for sample in samples] == ["d", "b", "d", "c", "d"]
        for sample in samples:
            require_equal(sample, tensors)
        if place == "local":
            assert not objects.reads
        assert dataset.batch([0, 3], "8px_16f").t5_length.tolist() == [2, 3]
        with pytest.raises(ValueError, match="name the bucket of the batch: open are 8px_1f, 8px_16f"):
            dataset.batch([0])
        with pytest.raises(ValueError, match="clip b is not in bucket '8px_16f'"):
            dataset.fetch([(1, "8px_16f")])
        with pytest.raises(ValueError, match="bucket '9px' is not open"):
            dataset.fetch([(1, "9px")])
        with pytest.raises(IndexError, match="row 4 of a dataset of 4 clips"):
            dataset.fetch([(4, "8px_1f")])
        with pytest.raises(ValueError, match="one bucket, not of 8px_1f, 8x16px_16f"):
            collate(samples)


def test_a_bucket_by_itself_is_the_same_batch(whole: World) -> None:
    folder, manifest, _ = whole
    several = LatentDataset.open(manifest, Objects(folder).read, list(SHAPES))
    for bucket in SHAPES:
        alone = LatentDataset.open(manifest, Objects(folder).read, bucket)
        batch, other = alone.batch(range(len(alone))), several.batch(several.rows(bucket).tolist(), bucket)
        assert (batch.clip_ids, batch.captions) == (other.clip_ids, other.captions)
        for name in ("latent", "t5", "t5_length", "clip"):
            assert torch.equal(getattr(batch, name), getattr(other, name))
    with pytest.raises(ValueError, match="each once"):
        LatentDataset.open(manifest, Objects(folder).read, ["8px_1f", "8px_1f"])


def test_latent_and_text_are_two_reads_sent_together(whole: World) -> None:
    folder, manifest, tensors = whole
    objects, together = Objects(folder), threading.Barrier(2, timeout=30)
    waiting = False

    def read(uri: str, start: int, length: int) -> bytes:
        if waiting:
            together.wait()  # broken where one is sent after the other
        return objects.read(uri, start, length)

    dataset = LatentDataset.open(manifest, read, list(SHAPES))
    dataset.fetch([(0, "8px_16f")])  # the header
    objects.reads.clear()
    waiting = True
    # between its latents in this bucket and its text lie those of other buckets
    require_equal(dataset.fetch([(3, "8px_16f")])[0], tensors)
    assert len(objects.reads) == 2
    dataset.close()


def test_no_more_reads_at_a_time_than_allowed(whole: World) -> None:
    folder, manifest, _ = whole
    objects, lock = Objects(folder), threading.Lock()
    active, most = 0, 0

    def read(uri: str, start: int, length: int) -> bytes:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        try:
            return objects.read(uri, start, length)
        finally:
            with lock:
                active -= 1

    with LatentDataset.open(manifest, read, list(SHAPES), parallel=2) as dataset:
        dataset.fetch([(row, bucket) for bucket in SHAPES for row in dataset.rows(bucket).tolist()])
    assert 1 <= most <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("range-read")]
    with pytest.raises(ValueError, match="at least 1, not 0"):
        LatentDataset.open(manifest, read, list(SHAPES), parallel=0)


@pytest.mark.parametrize("place", ["port", "local"])
def test_damage_names_file_tensor_and_clips(world: World, place: str) -> None:
    folder, manifest, tensors = world
    local = (lambda uri: folder / uri) if place == "local" else None
    shard = folder / "part0/00000.safetensors"
    content = shard.read_bytes()

    def dataset() -> LatentDataset:
        return LatentDataset.open(manifest, Objects(folder).read, list(SHAPES), local=local)

    def damage(data: bytes, samples: list[tuple[int, str]]) -> DamagedDataError:
        shard.write_bytes(data)
        with pytest.raises(DamagedDataError) as caught:
            dataset().fetch(samples)
        return caught.value

    everything = [(row, "8px_1f") for row in (0, 1, 3)]
    at = content.find(tensors["a/8px_1f/latent"].numpy().tobytes())
    one = damage(flipped(content, 8 * at + 5), everything)
    assert (one.uri, one.tensor) == ("part0/00000.safetensors", "a/8px_1f/latent")
    assert (one.rows, one.clip_ids) == ((0,), ("a",))
    # the other samples of the file are as they were
    require_equal(dataset().fetch([(3, "8px_1f")])[0], tensors)
    # two clips in one read, named in the order of the rows; the message is of the first sample asked for
    other = content.find(tensors["d/t5"].numpy().tobytes())
    both = damage(flipped(flipped(content, 8 * at), 8 * other), [(3, "8px_1f"), *everything])
    assert (both.rows, both.clip_ids, both.tensor) == ((0, 3), ("a", "d"), "d/t5")
    # a damaged header takes all clips of the file, also those that were not asked for
    header = damage(b"\xff" * 8 + content[8:], [(0, "8px_1f")])
    assert (header.uri, header.tensor, header.clip_ids) == ("part0/00000.safetensors", "", ("a", "b", "d"))
    short = damage(content[:-4], everything)
    assert (short.tensor, short.clip_ids) == ("d/t5", ("d",))
    assert "truncated" in str(short)
    again = pickle.loads(pickle.dumps(short))
    assert (str(again), again.rows, again.uri) == (str(short), short.rows, short.uri)


def test_each_or_only_the_first_read_is_compared(world: World) -> None:
    folder, manifest, _ = world
    each = LatentDataset.open(manifest, Objects(folder).read, "8px_1f", check="each")
    first = LatentDataset.open(manifest, Objects(folder).read, "8px_1f", check="first")
    for dataset in (each, first):
        dataset.fetch([(0, "8px_1f")])
    for shard in folder.glob("part*/*"):
        content = shard.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        shard.write_bytes(content[:begin] + bytes(255 - byte for byte in content[begin:]))
    with pytest.raises(DamagedDataError, match="does not match its checksum"):
        each.fetch([(0, "8px_1f")])
    first.fetch([(0, "8px_1f")])
    with pytest.raises(DamagedDataError) as caught:  # not read before
        first.fetch([(0, "8px_1f"), (1, "8px_1f")])
    assert caught.value.clip_ids == ("b",)


def test_the_columns_are_made_once_and_used_by_all(whole: World, tmp_path: Path) -> None:
    folder, manifest, _ = whole
    objects = Objects(folder)
    first = LatentDataset.open(manifest, objects.read, "8px_1f", cache=tmp_path)
    assert [uri for uri, _, _ in objects.reads].count("index") == 1
    objects.reads.clear()
    later = LatentDataset.open(manifest, objects.read, "8px_16f", cache=tmp_path)
    assert "index" not in [uri for uri, _, _ in objects.reads]
    assert (first.clip_ids, later.clip_ids) == (("a", "b", "d"), ("a", "d"))
    # an index that is damaged leaves nothing that a later process could take for whole
    damaged = tmp_path / "damaged"
    with pytest.raises(DamagedDataError, match=r"^index: content does not match"):
        LatentDataset.open(manifest | {"index": f"index@sha256:{'0' * 64}"}, objects.read, "8px_1f", cache=damaged)
    assert [path.suffix for path in damaged.iterdir()] == [".lock"]


def test_rows_may_be_numpy_integers(whole: World) -> None:
    folder, manifest, _ = whole
    dataset = LatentDataset.open(manifest, Objects(folder).read, "8px_1f")
    assert dataset.batch(np.array([2, 0])).clip_ids == ("d", "a")  # type: ignore[arg-type]
    assert dataset.fetch([(dataset.rows("8px_1f")[2], "8px_1f")])[0].clip_id == "d"
