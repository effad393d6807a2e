"""What all autoencoders promise: their rule for sizes, one interface, and clear refusals."""

from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.model.autoencoders import (
    AUTOENCODERS,
    DCAEConfig,
    HunyuanVideoConfig,
    TilingConfig,
    autoencoder_config,
    build_autoencoder,
    load_autoencoder,
)
from zoetrope.model.autoencoders.interface import VideoAutoencoder
from zoetrope.model.checkpoint import save_weights

DC_AE = DCAEConfig.nano()
HUNYUAN = HunyuanVideoConfig(latent_channels=4, widths=(8, 8, 8, 8), groups=4)
BOTH = [DC_AE, HUNYUAN]


@pytest.mark.parametrize("config", BOTH)
def test_both_are_used_alike(config):
    model = build_autoencoder(config)
    assert isinstance(model, VideoAutoencoder)
    assert (model.kind, model.temporal_factor, model.spatial_factor) == (config.kind, 4, 8)
    assert AUTOENCODERS[model.kind] is type(config)
    frames = model.nearest_frames(7)
    for count in (1, frames):
        video = torch.rand(2, 3, count, 16, 24)
        latent = model.encode(video)
        assert latent.shape == (2, *model.latent_shape(count, 16, 24))
        mean, log_variance = model.encode_moments(video)
        assert torch.equal(mean, latent)
        assert (log_variance is None) == (config is DC_AE) == (model.latent_statistics is None)
        assert model.decode(latent, single_frame=count == 1).shape == model(video).shape == video.shape


def test_only_a_distribution_is_sampled():
    video = torch.rand(1, 3, 1, 16, 16)
    for config, is_sampled in ((DC_AE, False), (HUNYUAN, True)):
        model = build_autoencoder(config)
        first, again = (model.encode(video, generator=torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(first, again)
        assert torch.equal(first, model.encode(video)) is not is_sampled


@given(st.sampled_from(BOTH), st.integers(-3, 200))
def test_the_nearest_number_of_frames_is_valid_and_nearest(config, frames):
    def valid(count):
        return count == 1 or (count > 0 and (count - config.leading_frames) % config.temporal_factor == 0)

    near = config.nearest_frames(frames)
    assert valid(near)
    assert config.nearest_frames(near) == near
    assert not any(valid(frames + step) for step in range(1 - abs(near - frames), abs(near - frames)))
    assert config.frames_of_latent(config.latent_shape(near, 16, 16)[1]) == (1 if near == 4 else near)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (DC_AE, (1, 3, 6, 16, 16), "6 frames: autoencoder dc_ae takes 1 frame or a multiple of 4 .*nearest is 8"),
        (DC_AE, (1, 3, 2, 16, 16), "2 frames: .*the nearest is 1"),
        (HUNYUAN, (1, 3, 16, 16, 16), "16 frames: autoencoder hunyuan_video takes 1 frame more than .*nearest is 17"),
        (HUNYUAN, (1, 3, 0, 16, 16), "0 frames: .*the nearest is 1"),
        (DC_AE, (1, 3, 4, 12, 16), "height 12: autoencoder dc_ae takes multiples of 8 pixels; the nearest is 16"),
        (HUNYUAN, (1, 3, 5, 16, 20), "width 20: autoencoder hunyuan_video takes multiples of 8 .*nearest is 24"),
        (HUNYUAN, (1, 4, 5, 16, 16), r"\[batch, 3, frames, height, width\], not \[1, 4, 5, 16, 16\]"),
        (DC_AE, (3, 4, 16, 16), r"\[batch, 3, frames, height, width\], not \[3, 4, 16, 16\]"),
    ],
)
def test_videos_that_are_not_taken_are_refused(config, shape, message):
    model = build_autoencoder(config)
    for work in (model.encode, model.encode_moments):
        with pytest.raises(ValueError, match=message):
            work(torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        list(model.encode_stream([torch.zeros(shape)]))


@pytest.mark.parametrize("shape", [(1, 5, 2, 2, 2), (4, 2, 2, 2), (1, 4, 0, 2, 2)])
def test_latents_of_another_shape_are_refused(shape):
    model = build_autoencoder(HUNYUAN)
    with pytest.raises(ValueError, match=r"decodes latents \[batch, 4, frames, height, width\], not \["):
        model.decode(torch.zeros(shape))
    with pytest.raises(ValueError, match="decodes latents"):
        list(model.decode_stream([torch.zeros(shape)]))


def test_streams_are_checked_as_a_whole():
    model = build_autoencoder(DC_AE)
    chunks = [torch.zeros(1, 3, 4, 16, 16), torch.zeros(1, 3, 2, 16, 16)]
    with pytest.raises(ValueError, match="6 frames"):
        list(model.encode_stream(chunks))
    with pytest.raises(ValueError, match="0 frames"):
        list(model.encode_stream([]))
    with pytest.raises(ValueError, match="a stream of 16x16: this chunk is 24x16"):
        list(model.encode_stream([chunks[0], torch.zeros(1, 3, 4, 24, 16)]))
    with pytest.raises(ValueError, match=r"needs tiles in time: tiling\.frames is 0"):
        list(model.encode_stream(chunks, tiling=TilingConfig()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixels": 20}, "tiling.pixels 20 with an overlap of 5: .* multiples of 8"),
        ({"pixels": 16, "overlap": 0.25}, "tiling.pixels 16 with an overlap of 4"),
        ({"frames": 18, "frame_overlap": 0}, "tiling.frames 18 .* multiples of 4"),
        ({"frames": 4, "frame_overlap": 0}, "tiling.frames 4: autoencoder dc_ae takes at least 8"),
        ({"overlap": 0.6}, r"tiling\.overlap has to be in \[0, 0\.5\], not 0\.6"),
        ({"frames": -4}, "at least 0"),
    ],
)
def test_tiles_that_cannot_be_are_refused(fields, message):
    model = build_autoencoder(DC_AE)
    with pytest.raises(ValueError, match=message):
        model.tiling = TilingConfig(**fields)


def test_products_name_their_kind(tmp_path):
    path = save_weights(build_autoencoder(HUNYUAN), tmp_path / "vae.safetensors")
    model = load_autoencoder("hunyuan_video", asdict(HUNYUAN), path, {"pixels": 64, "overlap": 0.125})
    assert model.tiling == TilingConfig(pixels=64, overlap=0.125)
    with pytest.raises(ValueError, match="unknown kind of autoencoder 'vq'; there are dc_ae, hunyuan_video"):
        autoencoder_config("vq", {})
    with pytest.raises(ValueError, match="did you mean 'widths'"):
        autoencoder_config("hunyuan_video", {"width": [1]})
    with pytest.raises(ValueError, match="does not fit the model"):
        load_autoencoder("dc_ae", asdict(DC_AE), path)
