"""Released weights instead of training: strictly checked, with fixed or measured statistics of the latents."""

import json
from dataclasses import asdict

import numpy as np
import pyarrow
import pytest
import torch
from pydantic import ValidationError

from zoetrope.components.train.config import AutoencoderStepConfig
from zoetrope.components.train.step import train_autoencoder
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference, digest_file
from zoetrope.infra.store import get_json, open_store, put_file_content, put_json, put_table
from zoetrope.model.autoencoders import DCAEConfig, HunyuanVideoConfig, TilingConfig, load_autoencoder
from zoetrope.model.autoencoders import build_autoencoder as build
from zoetrope.model.checkpoint import save_weights
from zoetrope.model.training.autoencoder import latent_statistics
from zoetrope.model.video import ClipRequest, read_clips, write_video

HUNYUAN = HunyuanVideoConfig(latent_channels=4, widths=(4, 4, 8, 8), groups=4)
DC_AE = DCAEConfig(
    latent_channels=4,
    widths=(4, 24, 8),
    encoder_depths=(0, 0, 1),
    decoder_depths=(0, 0, 1),
    blocks=("ResBlock",) * 3,
    temporal=(True, False),
)
CLIPS = {"height": 16, "width": 16, "frames": 4, "fps": 8}


class Decoded:
    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def batch(self, indices):
        return np.stack([self.frames[index] for index in indices])


class World:
    """A store with one captioned film of two clips."""

    def __init__(self, folder):
        self.folder, self.store = folder, open_store(folder / "store")
        noise = np.random.default_rng(0).integers(0, 256, (48, 4, 4, 3), np.uint8)
        self.film = write_video(folder / "film.mp4", np.kron(noise, np.ones((1, 8, 8, 1), np.uint8)), 24)
        video = str(put_file_content(self.store, self.film))
        crop = {"crop_x": 0, "crop_y": 0, "crop_width": 32, "crop_height": 32}
        rows = [{"clip_id": f"c{at}", "video": video, "start": str(at), "end": str(at + 1), **crop} for at in range(2)]
        texts = [{"clip_id": row["clip_id"], "split": "train"} for row in rows]
        clips = {"schema": "zoetrope.clips.v1", "table": str(put_table(self.store, pyarrow.Table.from_pylist(rows)))}
        captions = {
            "schema": "zoetrope.captions.v1",
            "table": str(put_table(self.store, pyarrow.Table.from_pylist(texts))),
            "clips": str(put_json(self.store, clips)),
        }
        self.captions = str(put_json(self.store, captions))
        self.context = StepContext("autoencoder", self.store, folder / "work", folder / "run")

    def file(self, config, name="released.safetensors"):
        torch.manual_seed(0)
        return str(save_weights(build(config), self.folder / name))

    def take(self, **settings):
        result = train_autoencoder(AutoencoderStepConfig(**settings), self.captions, self.context)
        return get_json(self.store, result.product), result


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_released_weights_become_the_product_as_they_are(world):
    path = world.file(HUNYUAN)
    product, result = world.take(
        kind="hunyuan_video", pretrained=path, hunyuan_video=HUNYUAN, tiling=TilingConfig(pixels=64)
    )
    assert (product["schema"], product["kind"]) == ("zoetrope.autoencoder.v1", "hunyuan_video")
    reference = Reference.parse(product["weights"])
    digest = digest_file(world.folder / "released.safetensors")
    assert product["pretrained"] == {"file": "released.safetensors", "sha256": digest}
    assert reference.digest == digest
    assert product["latent_mean"] == [0.0] * 4
    assert product["latent_std"] == pytest.approx([1 / 0.476986] * 4)
    local = world.store.local_path(reference.uri)
    model = load_autoencoder(product["kind"], product["config"], local, product["tiling"])
    assert model.tiling == TilingConfig(pixels=64)
    assert model.config == HUNYUAN
    assert result.metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert "not trained here" in result.key_figure
    assert str(world.folder) not in json.dumps({**product, "weights": ""})


def test_latents_of_released_dc_ae_weights_are_measured_on_the_clips(world):
    path = world.file(DC_AE)
    product, _ = world.take(pretrained=path, architecture=DC_AE, workers=1, **CLIPS)
    assert "tiling" not in product
    requests = [ClipRequest(at, at + 1, 4, 8, 16, 16, (0, 0, 32, 32)) for at in range(2)]
    model = load_autoencoder("dc_ae", asdict(DC_AE), world.folder / "released.safetensors")
    mean, std = latent_statistics(model, Decoded(read_clips(world.film, requests)))
    assert product["latent_mean"] == pytest.approx(mean, abs=1e-6)
    assert product["latent_std"] == pytest.approx(std, abs=1e-6)


def test_weights_that_do_not_fit_are_refused_in_one_line(world):
    with pytest.raises(ZoetropeError, match=r"pretrained: there is no file .*nowhere\.safetensors"):
        world.take(pretrained=str(world.folder / "nowhere.safetensors"))
    with pytest.raises(ZoetropeError, match=r"does not fit the model: weights \d+ missing"):
        world.take(kind="hunyuan_video", pretrained=world.file(DC_AE), hunyuan_video=HUNYUAN)
    pickled = world.folder / "model.pt"
    torch.save({"a": torch.zeros(1)}, pickled)
    with pytest.raises(ZoetropeError, match="pickled checkpoint"):
        world.take(kind="hunyuan_video", pretrained=str(pickled))


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="a file of weights: kind hunyuan_video is not trained here"):
        AutoencoderStepConfig(kind="hunyuan_video")
    with pytest.raises(ValidationError, match=r"tiling\.pixels 20"):
        AutoencoderStepConfig(tiling=TilingConfig(pixels=20))
    with pytest.raises(ValidationError, match="6 frames: autoencoder dc_ae takes"):
        AutoencoderStepConfig(pretrained="x.safetensors", frames=6)
    assert AutoencoderStepConfig(kind="hunyuan_video", pretrained="x.safetensors", frames=6).chosen.kind
