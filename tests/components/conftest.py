"""A checkpoint of the smallest size with all that it names, as training would leave it in the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow
import pytest

from zoetrope.infra.context import StepContext
from zoetrope.infra.store import Store, open_store, put_file_content, put_json, put_table

CAPTIONS = (
    "a red circle moving left",
    "a blue square moving right",
    "a green circle moving up",
    "a red square moving down",
)
PROMPTS = [
    {"prompt": "a blue circle moving left", "attributes": {"color": "blue", "direction": "left", "shape": "circle"}},
    {"prompt": "a green square moving down", "attributes": {"color": "green", "direction": "down", "shape": "square"}},
]
BUCKETS = {"16px_4f": (16, 4), "32px_8f": (32, 8)}


@pytest.fixture(scope="session")
def checkpoint_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """(store, checkpoint reference); every second clip is held out."""
    root = tmp_path_factory.mktemp("checkpoint")
    store = open_store(root / "store")
    text, rows = _text(root, store), [_caption(index) for index in range(len(CAPTIONS))]
    autoencoder, dataset = _autoencoder(root, store), {}
    captions = {"schema": "zoetrope.captions.v1", "table": str(put_table(store, pyarrow.Table.from_pylist(rows)))}
    dataset = {
        "schema": "zoetrope.dataset.v1",
        "name": "tiny",
        "text": text,
        "buckets": [
            {"name": n, "height": s, "width": s, "frames": t, "fps": 8, "latent": [4, t // 2, s // 4, s // 4]}
            for n, (s, t) in BUCKETS.items()
        ],
        "captions": str(put_json(store, captions)),
        "prompts": str(put_json(store, PROMPTS)),
        **_samples(root, store),
    }
    checkpoint = {
        "schema": "zoetrope.checkpoint.v1",
        "stage": "stage_3",
        "dataset": str(put_json(store, dataset)),
        "autoencoder": autoencoder,
        **_transformer(root, store),
    }
    return store, str(put_json(store, checkpoint))


@pytest.fixture
def step_context(checkpoint_store: tuple[Store, str], tmp_path: Path) -> StepContext:
    (tmp_path / "work").mkdir()
    return StepContext("test", checkpoint_store[0], tmp_path / "work", tmp_path / "run")


def _caption(index: int) -> dict[str, str]:
    words = CAPTIONS[index].split()
    attributes = {"color": words[1], "shape": words[2], "direction": words[4]}
    split = "held_out" if index % 2 else "train"
    return {"clip_id": f"clip{index}", "caption": CAPTIONS[index], "attributes": json.dumps(attributes), "split": split}


def _text(root: Path, store: Store) -> dict[str, object]:
    from zoetrope.model.data.shards import raw_tensor, write_tensors
    from zoetrope.model.text import TinyTextConfig, build_tiny_text_encoders, load_text_encoders

    captions = [*CAPTIONS, *(entry["prompt"] for entry in PROMPTS)]
    t5, clip = build_tiny_text_encoders(root, captions, 3, TinyTextConfig(width=16, heads=2))
    null_t5, null_clip = load_text_encoders(t5, clip).null()
    section: dict[str, object] = {}
    for name, folder in (("t5", t5), ("clip", clip)):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        section[name] = {path.relative_to(folder).as_posix(): str(put_file_content(store, path)) for path in files}
    for name, tensor in (("t5", null_t5), ("clip", null_clip)):
        write_tensors(root / f"null_{name}.safetensors", {name: raw_tensor(tensor)})
        section[f"null_{name}"] = str(put_file_content(store, root / f"null_{name}.safetensors"))
    return section


def _autoencoder(root: Path, store: Store) -> str:
    from zoetrope.model.autoencoders.config import DCAEConfig
    from zoetrope.model.autoencoders.dc_ae import VideoDCAE
    from zoetrope.model.checkpoint import save_weights

    config = DCAEConfig(
        latent_channels=4,
        widths=(8, 8, 8),
        encoder_depths=(0, 1, 1),
        decoder_depths=(0, 1, 1),
        blocks=("ResBlock",) * 3,
        temporal=(True, False),
    )
    weights = put_file_content(store, save_weights(VideoDCAE(config).initialise(0), root / "ae.safetensors"))
    product = {
        "schema": "zoetrope.autoencoder.v1",
        "kind": "dc_ae",
        "config": asdict(config),
        "weights": str(weights),
        "latent_mean": [0.1, 0.0, -0.1, 0.0],
        "latent_std": [0.5, 0.4, 0.5, 0.6],
    }
    return str(put_json(store, product))


def _transformer(root: Path, store: Store) -> dict[str, object]:
    """Random weights everywhere: a fresh model predicts no velocity at all, a trained one does."""
    import torch

    from zoetrope.model.checkpoint import save_weights
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.config import MMDiTConfig
    from zoetrope.model.mmdit.model import MMDiT

    config = MMDiTConfig(
        in_channels=16, vec_in_dim=16, context_in_dim=16, hidden_size=24, num_heads=2, depth=1,
        depth_single_blocks=1, axes_dim=(4, 4, 4),
    )  # fmt: skip
    model, generator = MMDiT(config).initialise(0), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    weights = put_file_content(store, save_weights(model, root / "transformer.safetensors"))
    return {"config": {"mmdit": asdict(config), "flow": asdict(FlowConfig())}, "weights": str(weights)}


def _samples(root: Path, store: Store) -> dict[str, object]:
    import torch

    from zoetrope.model.data.shards import ShardWriter, raw_tensor

    generator = torch.Generator().manual_seed(2)
    writer = ShardWriter(root / "shards", 10**9)
    index = []
    for number in range(len(CAPTIONS)):
        row = _caption(number)
        tensors = {f"{row['clip_id']}/t5": torch.randn(6, 16, generator=generator)}
        tensors[f"{row['clip_id']}/clip"] = torch.randn(16, generator=generator)
        for name, (size, frames) in BUCKETS.items():
            for part, length in (("latent", frames // 2), ("head", 1), ("tail", 1)):
                shape = (4, length, size // 4, size // 4)
                tensors[f"{row['clip_id']}/{name}/{part}"] = torch.randn(shape, generator=generator)
            index.append({"clip_id": row["clip_id"], "bucket": name, "shard": 0, "split": row["split"],
                          "caption": row["caption"], "t5_tokens": 6})  # fmt: skip
        writer.add({name: raw_tensor(tensor) for name, tensor in tensors.items()})
    shard = writer.close()
    assert shard is not None
    reference = put_table(store, pyarrow.Table.from_pylist(index))
    return {
        "shards": [{"path": shard.name, "uri": put_file_content(store, shard.path).uri}],
        "index": str(reference),
        "index_bytes": store.size(reference.uri),
    }
