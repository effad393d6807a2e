"""The encode step on small real videos."""

# One file of over 350 lines: its tests share one small world of films, captions and checkpoints, made below.

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from safetensors.torch import load_file

from zoetrope.components.encode.config import BucketConfig, EncodeConfig, TextConfig
from zoetrope.components.encode.step import encode
from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import (
    Store,
    get_json,
    get_table,
    open_store,
    put_file_content,
    put_json,
    put_table,
)
from zoetrope.model.autoencoders import (
    DCAEConfig,
    HunyuanVideoConfig,
    TilingConfig,
    build_autoencoder,
    load_autoencoder,
)
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import save_weights
from zoetrope.model.data import LatentDataset, raw_tensor
from zoetrope.model.data.shards import checksum
from zoetrope.model.video import read_clip, write_video

SMALL = BucketConfig(height=32, width=32, frames=4, fps=8)
LARGE = BucketConfig(height=48, width=48, frames=8, fps=8)
CONFIG = EncodeConfig(name="tiny", buckets=(SMALL, LARGE), text=TextConfig(seed=3), workers=1)
AUTOENCODER = DCAEConfig(
    latent_channels=4,
    widths=(4, 8, 8, 8),
    encoder_depths=(0, 1, 1, 1),
    decoder_depths=(0, 1, 1, 1),
    blocks=("ResBlock", "ResBlock", "ResBlock", "ResBlock"),
    temporal=(True, True, False),
)
# name, source, start, end, caption, split: the third clip is too short for the large bucket
CLIPS = (
    ("c1", "film0", "0", "1", "a red circle moving left", "train"),
    ("c2", "film0", "1", "2", "a blue square moving up", "train"),
    ("c0", "film1", "0", "1/2", "a red circle moving left", "train"),
    ("c3", "film1", "1/2", "3/2", "a green triangle", "held_out"),
)


class World:
    """A store with everything that the step reads."""

    def __init__(
        self,
        folder: Path,
        clips: tuple[tuple[str, ...], ...] = CLIPS,
        captions: int | None = None,
        damaged: str = "",
    ) -> None:
        self.folder, self.damaged = folder, damaged
        self.store: Store = open_store(folder / "store")
        videos = {name: self._video(name, seed) for seed, name in enumerate(("film0", "film1"))}
        self.videos = videos
        rows = [self._clip(videos, *clip[:4]) for clip in clips]
        texts = [
            {"clip_id": clip[0], "caption": clip[4], "caption_source": "sample", "attributes": "{}", "split": clip[5]}
            for clip in clips[:captions]
        ]
        sources = put_json(
            self.store,
            {"schema": "zoetrope.sources.v1", "licence": "CC0-1.0", "rights": "own", "prompts": ""},
        )
        clips_product = put_json(
            self.store,
            {
                "schema": "zoetrope.clips.v1",
                "table": str(put_table(self.store, pyarrow.Table.from_pylist(rows))),
                "funnel": str(put_json(self.store, {})),
                "sources": str(sources),
            },
        )
        self.captions = str(
            put_json(
                self.store,
                {
                    "schema": "zoetrope.captions.v1",
                    "table": str(put_table(self.store, pyarrow.Table.from_pylist(texts))),
                    "clips": str(clips_product),
                },
            )
        )
        self.autoencoder = str(put_json(self.store, self._autoencoder()))

    def _video(self, name: str, seed: int) -> str:
        random = np.random.default_rng(seed)
        small = random.integers(0, 255, (32, 6, 6, 3), dtype=np.uint8)
        path = write_video(self.folder / f"{name}.mp4", np.kron(small, np.ones((1, 8, 8, 1), np.uint8)), 16)
        if name == self.damaged:
            path.write_bytes(b"not a video")
        return str(put_file_content(self.store, path))

    @staticmethod
    def _clip(videos: dict[str, str], clip_id: str, source: str, start: str, end: str) -> dict[str, Any]:
        crop = {"crop_x": 0, "crop_y": 4, "crop_width": 48, "crop_height": 40}
        return {"clip_id": clip_id, "source_id": source, "video": videos[source], "start": start, "end": end, **crop}

    def _autoencoder(self) -> dict[str, Any]:
        path = self.folder / "autoencoder.safetensors"
        save_weights(VideoDCAE(AUTOENCODER).initialise(5), path)
        return {
            "schema": "zoetrope.autoencoder.v1",
            "kind": "dc_ae",
            "config": json.loads(json.dumps(AUTOENCODER.__dict__)),
            "weights": str(put_file_content(self.store, path)),
            "latent_mean": [0.1, 0.2, 0.3, 0.4],
            "latent_std": [1.0, 0.5, 2.0, 1.0],
        }

    def encode(self, config: EncodeConfig = CONFIG, **inputs: str) -> Any:
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        context = StepContext("encode", self.store, work, self.folder / "run")
        given = {"captions": self.captions, "autoencoder": self.autoencoder, **inputs}
        return encode(config, given["captions"], given["autoencoder"], context)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def result(world: World) -> Any:
    return world.encode()


@pytest.fixture(scope="module")
def manifest(world: World, result: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = get_json(world.store, result.product)
    return loaded


def test_every_clip_is_in_every_bucket_that_it_is_long_enough_for(world: World, manifest: dict[str, Any]) -> None:
    rows = get_table(world.store, manifest["index"]).to_pylist()
    assert [(row["bucket"], row["clip_id"], row["split"]) for row in rows] == [
        ("32px_4f", "c0", "train"),
        ("32px_4f", "c1", "train"),
        ("32px_4f", "c2", "train"),
        ("32px_4f", "c3", "held_out"),
        ("48px_8f", "c1", "train"),
        ("48px_8f", "c2", "train"),
        ("48px_8f", "c3", "held_out"),
    ]
    assert manifest["counts"] == {
        "clips": 4,
        "train": 3,
        "held_out": 1,
        "samples": {"32px_4f": 4, "48px_8f": 3},
        "too_short": {"32px_4f": 0, "48px_8f": 1},
        "unreadable": 0,
    }
    assert [bucket["latent"] for bucket in manifest["buckets"]] == [[4, 1, 4, 4], [4, 2, 6, 6]]
    assert (manifest["licence"], manifest["rights"]) == ("CC0-1.0", "own")


def test_latents_are_the_autoencoders_normalised(world: World, manifest: dict[str, Any]) -> None:
    dataset = LatentDataset.open(manifest, world.store.read, "48px_8f")
    batch = dataset.batch([1])
    assert batch.clip_ids == ("c2",)
    path = world.store.local_path(world.videos["film0"].rpartition("@")[0])
    assert path is not None
    frames = read_clip(
        path, Fraction(1), Fraction(2), LARGE.frames, LARGE.fps, height=48, width=48, crop=(0, 4, 48, 40)
    )
    product = get_json(world.store, world.autoencoder)
    weights = world.store.local_path(product["weights"].rpartition("@")[0])
    assert weights is not None
    model = load_autoencoder(product["kind"], product["config"], weights)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    mean = torch.tensor(product["latent_mean"]).view(1, -1, 1, 1, 1)
    std = torch.tensor(product["latent_std"]).view(1, -1, 1, 1, 1)
    for name, part in {"latent": video, "head": video[:, :, :1], "tail": video[:, :, -1:]}.items():
        torch.testing.assert_close(
            {"latent": batch.latent, **batch.references}[name], (model.encode(part) - mean) / std
        )


def test_longer_references_are_encoded_by_themselves(world: World, manifest: dict[str, Any]) -> None:
    """40 frames at 40 a second: 32 of each end apart; the short bucket does without."""
    long = BucketConfig(height=32, width=32, frames=40, fps=40)
    config = CONFIG.model_copy(update={"buckets": (SMALL, long), "references": ("short",)})
    product = get_json(world.store, world.encode(config).product)
    entries = {entry["name"]: entry for entry in product["buckets"]}
    assert entries["32px_40f"]["references"] == ["short"] and "references" not in entries["32px_4f"]
    dataset = LatentDataset.open(product, world.store.read, "32px_40f", conditions=["v2v_head", "v2v_tail"])
    batch = dataset.batch([0])
    path = world.store.local_path(world.videos["film0"].rpartition("@")[0])
    weights = world.store.local_path(get_json(world.store, world.autoencoder)["weights"].rpartition("@")[0])
    assert batch.clip_ids == ("c1",) and path is not None and weights is not None
    autoencoder = get_json(world.store, world.autoencoder)
    model = load_autoencoder(autoencoder["kind"], autoencoder["config"], weights)
    frames = read_clip(path, Fraction(0), Fraction(1), 40, 40, height=32, width=32, crop=(0, 4, 48, 40))
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    mean, std = (torch.tensor(autoencoder[f"latent_{name}"]).view(1, -1, 1, 1, 1) for name in ("mean", "std"))
    for name, part in {"head_short": video[:, :, :32], "tail_short": video[:, :, -32:]}.items():
        torch.testing.assert_close(batch.references[name], (model.encode(part) - mean) / std)


def test_the_padded_mode_is_recorded_and_fills_every_caption_up(world: World, manifest: dict[str, Any]) -> None:
    assert manifest["text"]["mode"] == "ragged" and "t5_tokens" not in manifest["text"]
    text = TextConfig(seed=3, mode="padded", t5_tokens=12)
    product = get_json(world.store, world.encode(CONFIG.model_copy(update={"text": text})).product)
    assert (product["text"]["mode"], product["text"]["t5_tokens"]) == ("padded", 12)
    assert product["digest"] != manifest["digest"]
    dataset = LatentDataset.open(product, world.store.read, "32px_4f")
    batch = dataset.batch([0, 2])
    assert batch.t5.shape[1] == 12 and batch.t5_length.tolist() == [12, 12]
    assert dataset.null_t5.shape[0] == 12
    ragged = LatentDataset.open(manifest, world.store.read, "32px_4f").batch([0, 2])
    length = int(ragged.t5_length[0])
    assert not torch.allclose(batch.t5[0, :length], ragged.t5[0, :length], atol=1e-3)  # the padding took part


def test_captions_are_embedded_and_equal_ones_equally(world: World, manifest: dict[str, Any]) -> None:
    batch = LatentDataset.open(manifest, world.store.read, "32px_4f").batch([0, 1, 2])
    assert batch.captions[0] == batch.captions[1] != batch.captions[2]
    assert torch.equal(batch.t5[0], batch.t5[1])
    assert torch.equal(batch.clip[0], batch.clip[1])
    assert not torch.allclose(batch.clip[0], batch.clip[2])
    rows = get_table(world.store, manifest["index"]).to_pylist()
    tokens = {row["clip_id"]: row["t5_tokens"] for row in rows}
    assert batch.t5_length.tolist() == [tokens[clip_id] for clip_id in batch.clip_ids]


def test_equal_input_gives_the_equal_product_with_other_workers_too(world: World, result: Any) -> None:
    assert world.encode(CONFIG.model_copy(update={"workers": 2})).product == result.product


def test_the_digest_does_not_depend_on_the_place(world: World, manifest: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = World(tmp_path)
    other = get_json(elsewhere.store, elsewhere.encode().product)
    assert other == manifest, "references are relative to the store"


def test_a_samples_latents_do_not_depend_on_other_clips(world: World, manifest: dict[str, Any], tmp_path: Path) -> None:
    fewer = World(tmp_path, CLIPS[1:])
    other = get_json(fewer.store, fewer.encode().product)
    ours = LatentDataset.open(manifest, world.store.read, "48px_8f")
    theirs = LatentDataset.open(other, fewer.store.read, "48px_8f")
    assert (ours.clip_ids, theirs.clip_ids) == (("c1", "c2"), ("c2",))
    left, right = ours.batch([1]), theirs.batch([0])
    assert torch.equal(left.latent, right.latent)
    for name in ("head", "tail"):
        assert torch.equal(left.references[name], right.references[name])


def test_another_caption_gives_another_digest(manifest: dict[str, Any], tmp_path: Path) -> None:
    changed = (*CLIPS[:3], (*CLIPS[3][:4], "a red triangle", "held_out"))
    other = World(tmp_path, changed)
    assert get_json(other.store, other.encode().product)["digest"] != manifest["digest"]


def test_small_shards_hold_the_same_samples(world: World, tmp_path: Path, manifest: dict[str, Any]) -> None:
    shards = manifest["shards"]
    assert [shard["samples"] for shard in shards] == [4]
    for shard in shards:
        assert shard["uri"] == f"dvc/files/md5/{shard['md5'][:2]}/{shard['md5'][2:]}"
        assert world.store.size(shard["uri"]) == shard["bytes"]


def test_the_registry_adopts_the_product(world: World, result: Any, manifest: dict[str, Any]) -> None:
    version = DatasetRegistry(world.folder / "datasets", world.store).adopt(str(result.product), "run")
    assert (version.tag, version.digest) == ("tiny-v1", manifest["digest"])


def test_the_gate_ran_and_its_docs_are_kept(world: World, result: Any) -> None:
    (gate,) = result.gates
    assert gate["success"]
    assert world.store.exists(gate["docs"])


def test_clips_without_caption_are_left_out(tmp_path: Path) -> None:
    world = World(tmp_path, captions=2)
    product = get_json(world.store, world.encode().product)
    assert product["counts"]["clips"] == 2


def test_a_bucket_that_no_clip_fits_is_an_error(world: World) -> None:
    config = CONFIG.model_copy(update={"buckets": (BucketConfig(height=32, width=32, frames=40, fps=8),)})
    with pytest.raises(ZoetropeError, match=r"none of 4 clips .* 32px_40f: it needs more than 4\.88 s"):
        world.encode(config)


def test_a_damaged_video_costs_its_clips_only(tmp_path: Path) -> None:
    world = World(tmp_path, damaged="film0")
    product = get_json(world.store, world.encode().product)
    assert (product["counts"]["clips"], product["counts"]["unreadable"]) == (2, 2)


def test_a_video_that_was_changed_since_ingest_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = world.store.local_path(world.videos["film0"].rpartition("@")[0])
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ZoetropeError, match=f"{path.name}: content does not match its digest") as caught:
        world.encode()
    assert "run the step `ingest` again" in caught.value.hint


def test_the_index_holds_the_checksum_of_every_tensor(world: World, manifest: dict[str, Any]) -> None:
    (shard,) = manifest["shards"]
    path = world.store.local_path(shard["uri"])
    assert path is not None
    written = load_file(path)
    seen = set()
    for row in get_table(world.store, manifest["index"]).to_pylist():
        for kind in ("latent", "head", "tail", "t5", "clip"):
            middle = "" if kind in ("t5", "clip") else f"{row['bucket']}/"
            name = f"{row['clip_id']}/{middle}{kind}"
            tensor = raw_tensor(written[name])
            assert row[f"checksum_{kind}"] == checksum(tensor.dtype, tensor.shape, tensor.data)
            seen.add(name)
    assert seen == set(written)
    assert manifest["checksum"] == "blake2b-64"


def test_a_causal_autoencoder_encodes_and_its_rule_is_the_buckets(world: World) -> None:
    config = HunyuanVideoConfig(latent_channels=4, widths=(4, 4, 8, 8), groups=4)
    model = build_autoencoder(config).eval()
    path = save_weights(model, world.folder / "hunyuan.safetensors")
    mean, std = config.latent_statistics
    product = {
        "schema": "zoetrope.autoencoder.v1",
        "kind": "hunyuan_video",
        "config": json.loads(json.dumps(config.__dict__)),
        "weights": str(put_file_content(world.store, path)),
        "latent_mean": mean,
        "latent_std": std,
        "tiling": {"pixels": 32, "overlap": 0.25},
    }
    autoencoder = str(put_json(world.store, product))
    bucket = BucketConfig(height=48, width=48, frames=5, fps=8)
    manifest = get_json(
        world.store,
        world.encode(CONFIG.model_copy(update={"buckets": (bucket,)}), autoencoder=autoencoder).product,
    )
    assert manifest["buckets"][0]["latent"] == [4, 2, 6, 6]
    batch = LatentDataset.open(manifest, world.store.read, "48px_5f").batch([0])
    video_path = world.store.local_path(world.videos["film0"].rpartition("@")[0])
    assert video_path is not None and batch.clip_ids == ("c1",)
    frames = read_clip(video_path, Fraction(0), Fraction(1), 5, 8, height=48, width=48, crop=(0, 4, 48, 40))
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    model.tiling = TilingConfig(pixels=32, overlap=0.25)
    with torch.no_grad():
        for name, part in {"latent": video, "head": video[:, :, :1], "tail": video[:, :, -1:]}.items():
            expected = model.encode(part) * 0.476986
            found = batch.latent if name == "latent" else batch.references[name]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ZoetropeError, match=r"encode\.buckets, 32px_4f: 4 frames: .*the nearest is 5"):
        world.encode(autoencoder=autoencoder)
    with pytest.raises(ZoetropeError, match="unknown kind of autoencoder 'vq'"):
        world.encode(autoencoder=str(put_json(world.store, {**product, "kind": "vq"})))


def test_a_broken_autoencoder_is_stopped_by_the_gate(world: World) -> None:
    product = get_json(world.store, world.autoencoder)
    broken = put_json(world.store, {**product, "latent_std": [0.0, 0.5, 2.0, 1.0]})
    with pytest.raises(ZoetropeError, match="latent_finite"):
        world.encode(autoencoder=str(broken))


def test_products_of_other_steps_are_refused(world: World) -> None:
    with pytest.raises(ZoetropeError, match=r"zoetrope\.captions\.v1"):
        world.encode(captions=world.autoencoder)


def test_missing_encoder_folder_is_named(world: World) -> None:
    text = TextConfig(kind="folders", t5_folder=str(world.folder / "nothing"))
    with pytest.raises(ZoetropeError, match=r"encode\.text\.t5_folder"):
        world.encode(CONFIG.model_copy(update={"text": text}))


def test_the_product_holds_no_time_and_no_scratch_path(world: World, result: Any) -> None:
    text = json.dumps(get_json(world.store, result.product))
    assert str(world.folder) not in text
    assert "://" not in text


def test_the_steps_own_process_does_without_pytorch() -> None:
    program = "import sys, zoetrope.components.encode.step; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
