"""Shards as safetensors files and samples read back from them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from tests.model.data.datasets import Objects, flipped
from zoetrope.model.data import DamagedDataError, LatentDataset, RawTensor, ShardWriter, raw_tensor
from zoetrope.model.data.shards import checksum, write_tensors


def sample(
    clip_id: str, number: int, bucket: str, dtype: torch.dtype, extra: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    return {
        f"{clip_id}/{bucket}/head": random(2, 1, 3, 3),
        f"{clip_id}/{bucket}/latent": random(2, 4, 3, 3),
        f"{clip_id}/{bucket}/tail": random(2, 1, 3, 3),
        **{f"{clip_id}/{bucket}/{name}": random(2, length, 3, 3) for name, length in (extra or {}).items()},
        f"{clip_id}/clip": random(5),
        f"{clip_id}/t5": random(number + 1, 6),
    }


def build(
    folder: Path,
    count: int = 4,
    limit: int = 1500,
    dtype: torch.dtype = torch.float32,
    extra: Mapping[str, int] | None = None,
    checksums: bool = True,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A dataset of `count` clips, the last one held out; returns manifest and all tensors."""
    writer = ShardWriter(folder, limit)
    shards, rows, everything = [], [], {}
    for number in range(count):
        clip_id = f"clip{number}"
        tensors = sample(clip_id, number, "8px_4f", dtype, extra)
        everything |= tensors
        raw = {name: raw_tensor(tensor) for name, tensor in tensors.items()}
        shard, finished = writer.add(raw)
        shards += [finished] if finished else []
        sums = {
            f"checksum_{name.rpartition('/')[2]}": checksum(each.dtype, each.shape, each.data)
            for name, each in raw.items()
            if checksums
        }
        split = "held_out" if number == count - 1 else "train"
        rows.append(
            {
                "clip_id": clip_id,
                "bucket": "8px_4f",
                "shard": shard,
                "split": split,
                "caption": f"caption {number}",
                "t5_tokens": number + 1,
                **sums,
            }
        )
    last = writer.close()
    shards += [last] if last else []
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    (folder / "index").write_bytes(buffer.getvalue())
    write_tensors(folder / "null_t5", {"t5": raw_tensor(torch.full((1, 6), 7.0))})
    write_tensors(folder / "null_clip", {"clip": raw_tensor(torch.full((5,), 8.0))})
    reference = {
        name: f"{name}@sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
        for name in ("index", "null_t5", "null_clip")
    }
    manifest = {
        "schema": "zoetrope.dataset.v1",
        "name": "tiny",
        "index": reference["index"],
        "index_bytes": len(buffer.getvalue()),
        "shards": [{"uri": shard.path.name, "md5": shard.md5, "bytes": shard.bytes} for shard in shards],
        "text": {name: reference[name] for name in ("null_t5", "null_clip")},
    }
    return manifest, everything


def test_shards_are_valid_safetensors_with_true_hashes(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 10_000)
    tensors = sample("a", 2, "8px_4f", torch.bfloat16)
    writer.add({name: raw_tensor(tensor) for name, tensor in tensors.items()})
    shard = writer.close()
    assert shard is not None
    data = shard.path.read_bytes()
    assert shard.md5 == hashlib.md5(data).hexdigest()
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert (shard.bytes, shard.samples, shard.name) == (len(data), 1, "shards/00000.safetensors")
    with safe_open(shard.path, "pt") as opened:
        assert set(opened.keys()) == set(tensors)
        assert all(torch.equal(opened.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_a_shard_is_closed_before_its_limit_and_a_clip_is_never_split(tmp_path: Path) -> None:
    manifest, _ = build(tmp_path, count=6, limit=1500)
    sizes = [shard["bytes"] for shard in manifest["shards"]]
    assert len(sizes) > 1
    for shard in manifest["shards"]:
        with safe_open(tmp_path / shard["uri"], "pt") as opened:
            names = list(opened.keys())
            payload = sum(opened.get_tensor(name).nbytes for name in names)
        assert payload <= 1500
        assert len(names) == 5 * len({name.split("/")[0] for name in names})


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first, _ = build(tmp_path / "a")
    second, _ = build(tmp_path / "b")
    assert first["shards"] == second["shards"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_hold_what_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    manifest, tensors = build(tmp_path, dtype=dtype)
    dataset = LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f")
    assert len(dataset) == 3
    batch = dataset.batch([2, 0, 2])
    assert batch.clip_ids == ("clip2", "clip0", "clip2")
    assert batch.captions == ("caption 2", "caption 0", "caption 2")
    for at, clip_id in enumerate(batch.clip_ids):
        for name, tensor in {"latent": batch.latent, **batch.references}.items():
            assert torch.equal(tensor[at], tensors[f"{clip_id}/8px_4f/{name}"])
        assert torch.equal(batch.clip[at], tensors[f"{clip_id}/clip"])
        length = int(batch.t5_length[at])
        assert torch.equal(batch.t5[at, :length], tensors[f"{clip_id}/t5"])
        assert not batch.t5[at, length:].any()
    assert batch.t5_length.tolist() == [3, 1, 3]
    assert (batch.latent.dtype, batch.t5.shape) == (dtype, (3, 3, 6))
    assert dataset.null_t5.shape == (1, 6)
    assert dataset.null_clip.tolist() == [8.0] * 5
    assert set(batch.references) == {"head", "tail"}


def test_longer_references_are_read_where_a_condition_needs_them(tmp_path: Path) -> None:
    manifest, tensors = build(tmp_path, extra={"head_short": 2, "tail_short": 2})
    manifest["buckets"] = [{"name": "8px_4f", "frames": 64, "references": ["short"]}]

    def opened(*conditions: str) -> LatentDataset:
        return LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f", conditions=conditions)

    batch = opened("t2v", "v2v_head").batch([1, 0])
    assert set(batch.references) == {"head", "tail", "head_short"}
    assert torch.equal(batch.references["head_short"][1], tensors["clip0/8px_4f/head_short"])
    # 64 frames hold no reference of 64 frames: nothing is missing
    assert set(opened("v2v_tail_easy").batch([0]).references) == {"head", "tail"}
    manifest["buckets"][0]["frames"] = 65
    manifest["buckets"][0]["references"] = []
    with pytest.raises(ValueError, match=r"'tiny' holds no short references in bucket '8px_4f' \(there: none\)"):
        opened("v2v_tail")


def test_only_the_samples_asked_for_are_read_and_headers_once(tmp_path: Path) -> None:
    manifest, tensors = build(tmp_path, limit=10**6)
    objects = Objects(tmp_path)
    dataset = LatentDataset.open(manifest, objects.read, "8px_4f")
    dataset.batch([0])
    objects.reads.clear()
    dataset.batch([1, 2])
    wanted = sum(t.nbytes for name, t in tensors.items() if name.split("/")[0] in ("clip1", "clip2"))
    assert sum(length for _, _, length in objects.reads) == wanted
    assert len(objects.reads) == 1  # neighbours in a file come together


def test_held_out_clips_are_a_split_of_their_own(tmp_path: Path) -> None:
    manifest, _ = build(tmp_path)
    dataset = LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f", split="held_out")
    assert dataset.clip_ids == ("clip3",)


def test_an_empty_bucket_names_those_that_exist(tmp_path: Path) -> None:
    manifest, _ = build(tmp_path)
    with pytest.raises(ValueError, match=r"'64px_16f'.*8px_4f/held_out \(1 clips\), 8px_4f/train \(3 clips\)"):
        LatentDataset.open(manifest, Objects(tmp_path).read, "64px_16f")
    with pytest.raises(ValueError, match=r"zoetrope\.clips\.v1"):
        LatentDataset.open({"schema": "zoetrope.clips.v1"}, Objects(tmp_path).read, "8px_4f")


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    manifest, _ = build(tmp_path, limit=10**6)
    shard = tmp_path / manifest["shards"][0]["uri"]
    shard.write_bytes(shard.read_bytes()[:-200])
    dataset = LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f", split="held_out")
    with pytest.raises(ValueError, match=r"00000\.safetensors.*truncated"):
        dataset.batch([0])


@pytest.mark.parametrize("name", ["index", "null_t5", "null_clip"])
def test_a_flipped_bit_in_a_small_object_is_named(tmp_path: Path, name: str) -> None:
    manifest, _ = build(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for at in (0, 8, len(whole) // 2, len(whole) - 1):
        path.write_bytes(flipped(whole, 8 * at + at % 8))
        with pytest.raises(DamagedDataError, match=f"^{name}: "):
            LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f")


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.0)
def test_a_flipped_bit_of_a_shard_is_never_used(
    tmp_path_factory: pytest.TempPathFactory, one_shard: tuple[dict[str, Any], dict[str, Tensor], bytes], share: float
) -> None:
    manifest, tensors, whole = one_shard
    folder = tmp_path_factory.getbasetemp() / "flipped"
    name = manifest["shards"][0]["uri"]
    (folder / name).write_bytes(flipped(whole, int(share * 8 * len(whole))))
    try:
        batch = LatentDataset.open(manifest, Objects(folder).read, "8px_4f").batch([0, 1, 2])
    except DamagedDataError as error:
        assert name in str(error)
        assert "run the step `encode` again" in error.hint
        return
    # the bit lies in the clip that was not read, or in a name that nobody asked for
    for at, clip_id in enumerate(batch.clip_ids):
        for kind, tensor in {"latent": batch.latent, **batch.references}.items():
            assert torch.equal(tensor[at], tensors[f"{clip_id}/8px_4f/{kind}"])
        assert torch.equal(batch.clip[at], tensors[f"{clip_id}/clip"])
        assert torch.equal(batch.t5[at, : int(batch.t5_length[at])], tensors[f"{clip_id}/t5"])


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Tensor], bytes]:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    manifest, tensors = build(folder, limit=10**6)
    return manifest, tensors, (folder / manifest["shards"][0]["uri"]).read_bytes()


def test_an_index_without_checksums_is_read_and_one_of_another_kind_is_refused(tmp_path: Path) -> None:
    manifest, tensors = build(tmp_path, checksums=False)
    batch = LatentDataset.open(manifest, Objects(tmp_path).read, "8px_4f").batch([0])
    assert torch.equal(batch.latent[0], tensors["clip0/8px_4f/latent"])
    with pytest.raises(ValueError, match="has checksums 'crc-32', this version reads 'blake2b-64'"):
        LatentDataset.open({**manifest, "checksum": "crc-32"}, Objects(tmp_path).read, "8px_4f")


def test_the_checksum_is_fixed_for_ever() -> None:
    # 8 bytes of BLAKE2b over "F32:2,1:" and the elements, big endian
    data = b"\x00\x00\x80\x3f\x00\x00\x00\x40"
    assert checksum("F32", (2, 1), data) == -1088672725526046096
    assert checksum("F32", (1, 2), data) != checksum("F32", (2, 1), data)
    assert checksum("BF16", (2, 2), data) != checksum("F16", (2, 2), data)


def test_wrong_tensors_are_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 100)
    with pytest.raises(ValueError, match="do not fit the shape"):
        writer.add({"a": RawTensor("F32", (3,), b"1234")})
    with pytest.raises(ValueError, match="int64"):
        raw_tensor(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="must be positive"):
        ShardWriter(tmp_path, 0)
