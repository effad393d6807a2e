"""A checkpoint whose dataset was encoded with HunyuanVideo's autoencoder makes videos."""

from dataclasses import asdict

import av
import pytest
import torch

from zoetrope.components.generate.command.opening import open_reference
from zoetrope.components.generate.command.videos import VideoRequest, generate_videos
from zoetrope.components.generate.prompts import Prompt
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_json, put_file_content, put_json
from zoetrope.model.autoencoders import HunyuanVideoConfig, build_autoencoder
from zoetrope.model.checkpoint import save_weights
from zoetrope.model.sampling import SamplerConfig

# 4x in space and 2x in time, the factors of the fixture's transformer
CONFIG = HunyuanVideoConfig(latent_channels=4, widths=(4, 4, 8), temporal=(False, True), groups=4)


def test_videos_of_a_causal_autoencoder(checkpoint_store, tmp_path):
    store, checkpoint = checkpoint_store
    torch.manual_seed(0)
    mean, std = CONFIG.latent_statistics
    autoencoder = {
        "schema": "zoetrope.autoencoder.v1",
        "kind": "hunyuan_video",
        "config": asdict(CONFIG),
        "weights": str(put_file_content(store, save_weights(build_autoencoder(CONFIG), tmp_path / "vae.safetensors"))),
        "latent_mean": mean,
        "latent_std": std,
    }
    manifest = get_json(store, checkpoint)
    bucket = {"name": "16px_5f", "height": 16, "width": 16, "frames": 5, "fps": 8, "latent": [4, 3, 4, 4]}
    dataset = get_json(store, manifest["dataset"]) | {"buckets": [bucket]}
    changed = {"dataset": str(put_json(store, dataset)), "autoencoder": str(put_json(store, autoencoder))}
    checkpoint = str(put_json(store, manifest | changed))
    sampler, prompt = SamplerConfig(steps=2, batch_size=2), Prompt("p", 3)
    opened = open_reference(checkpoint, store, tmp_path / "work", "cpu")

    def draw(frames):
        request = VideoRequest(frames=frames, sampler=sampler, threads=1)
        generate_videos(opened, [prompt], [tmp_path / "video.mp4"], request)

    for frames, expected in ((0, 5), (7, 7)):
        draw(frames)
        with av.open(str(tmp_path / "video.mp4")) as container:
            assert [(f.width, f.height) for f in container.decode(video=0)] == [(16, 16)] * expected
    with pytest.raises(ZoetropeError, match="6 frames: autoencoder hunyuan_video takes"):
        draw(6)
