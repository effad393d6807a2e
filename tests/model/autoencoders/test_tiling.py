"""Tiles and streams: exact where they are defined to be, close where they cannot be, flat in memory."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoetrope.model.autoencoders import DCAEConfig, HunyuanVideoConfig, TilingConfig, build_autoencoder
from zoetrope.model.autoencoders.base_config import tile_lengths
from zoetrope.model.autoencoders.tiling import blended, joined, overlapping
from zoetrope.model.memory import PeakMemory

DC_AE = DCAEConfig(
    latent_channels=4,
    widths=(4, 24, 8),
    encoder_depths=(0, 1, 1),
    decoder_depths=(0, 1, 1),
    blocks=("ResBlock", "ResBlock", "EViT_GLU"),
    temporal=(True, True),
    head_dim=4,
    expand_ratio=2,
)
HUNYUAN = HunyuanVideoConfig(latent_channels=4, widths=(8, 16, 16, 16), groups=4)
IN_TIME = {"dc_ae": TilingConfig(pixels=0, frames=32, frame_overlap=0), "hunyuan_video": TilingConfig(0, frames=16)}


def model_of(config):
    torch.manual_seed(0)
    return build_autoencoder(config).eval().requires_grad_(False)


def video_of(frames, pixels=16, seed=1):
    return torch.rand(1, 3, frames, pixels, pixels, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def cut(video, lengths):
    """The video in chunks of these lengths, again and again."""
    start, at = 0, 0
    while start < video.shape[2]:
        yield video[:, :, start : start + lengths[at % len(lengths)]]
        start, at = start + lengths[at % len(lengths)], at + 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 6), st.integers(0, 3), st.integers(0, 1))
def test_tiles_of_what_no_network_changes_blend_to_the_whole(lengths, size, overlap, leading):
    overlap = min(overlap, size // 2)
    whole = torch.arange(sum(lengths), dtype=torch.float64)[None] + 1
    tiles = list(overlapping(whole.split(lengths, 1), 1, size, overlap, leading))
    assert [tile.shape[1] for tile in tiles] == tile_lengths(whole.shape[1], size, overlap, leading)
    inner = (tile[:, leading:] if at else tile for at, tile in enumerate(tiles))
    torch.testing.assert_close(joined(blended(inner, 1, overlap), 1), whole)


def test_the_blend_is_linear():
    tiles = [torch.zeros(1, 6), torch.ones(1, 6)]
    expected = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert joined(blended(tiles, 1, 4), 1).tolist() == [expected]


@settings(max_examples=8)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=3))
def test_a_stream_gives_what_the_whole_gives(lengths):
    for config, frames in ((DC_AE, 76), (HUNYUAN, 45)):
        model, video = model_of(config), video_of(frames)
        model.tiling = IN_TIME[model.kind]
        whole = model.encode(video, generator=torch.Generator().manual_seed(5))
        pieces = list(model.encode_stream(cut(video, lengths), generator=torch.Generator().manual_seed(5)))
        assert len(pieces) > 2
        torch.testing.assert_close(torch.cat(pieces, 2), whole, atol=1e-5, rtol=0)
        decoded = torch.cat(list(model.decode_stream(cut(whole, lengths))), 2)
        assert decoded.shape == video.shape
        torch.testing.assert_close(decoded, model.decode(whole), atol=1e-5, rtol=0)


def test_chunks_of_the_dc_ae_are_independent():
    model, video = model_of(DC_AE), video_of(64)
    assert model.config.tiling.frames == 32
    assert model.config.tiling.frame_overlap == 0
    alone = [model.encode(part) for part in video.split(32, 2)]
    torch.testing.assert_close(torch.cat(list(model.encode_stream([video])), 2), torch.cat(alone, 2))
    latent = torch.cat([*alone, alone[0][:, :, :1]], 2)  # the last chunk is one latent frame: 4 frames, no image
    decoded = torch.cat(list(model.decode_stream([latent])), 2)
    assert decoded.shape[2] == 68
    torch.testing.assert_close(decoded[:, :, :32], model.decode(alone[0]))
    torch.testing.assert_close(decoded[:, :, 64:], model.decode(latent[:, :, 16:], single_frame=False))


@pytest.mark.parametrize("config", [DC_AE, HUNYUAN])
def test_without_tiles_the_network_is_called_as_it_is(config):
    """Bits and layout in memory: kernels are chosen by layout, and a trained model's latents must not change."""
    model = model_of(config)
    video = video_of(config.nearest_frames(8)).permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    latent, plain = model.encode(video), model._encode_tile(video)
    if model.kind == "dc_ae":
        assert torch.equal(plain, model.encoder(video))
        assert latent.stride() == plain.stride()
    assert torch.equal(latent, plain[:, : config.latent_channels])
    decoded, expected = model.decode(latent), model._decode_tile(latent, single_frame=False)
    assert torch.equal(decoded, expected)
    assert decoded.stride() == expected.stride()


@pytest.mark.parametrize("config", [DC_AE, HUNYUAN])
def test_what_fits_into_one_tile_is_not_tiled(config):
    model, video = model_of(config), video_of(config.nearest_frames(16), 32)
    latent = model.encode(video)
    decoded = model.decode(latent)
    model.tiling = TilingConfig(pixels=32, frames=16)
    assert torch.equal(model.encode(video), latent)
    assert torch.equal(model.decode(latent), decoded)
    model.tiling = TilingConfig(pixels=16, overlap=0.5)
    assert model.encode(video).shape == latent.shape
    assert not torch.equal(model.encode(video), latent)
    assert model.decode(latent).shape == decoded.shape


def error(found, expected):
    return ((found - expected).square().mean() / expected.square().mean()).sqrt().item()


def jump(values, axis, place):
    return (values.select(axis, place) - values.select(axis, place - 1)).square().mean().sqrt().item()


# Bounds of (encode, decode) are about 1.3 times what was measured; with random weights and so few pixels the norms'
# statistics differ much between a tile and the whole. bench/autoencoders.py measures larger ones.
@pytest.mark.parametrize(
    ("tiling", "shape", "axis", "place", "errors", "seams"),
    [
        (TilingConfig(pixels=0, frames=32), (65, 32), 2, 7, (1.0, 1.4), (0.1, 1.0)),
        (TilingConfig(pixels=128), (5, 192), 4, 12, (0.27, 0.75), (0.3, 0.9)),
    ],
)
def test_hunyuan_tiles_are_bounded_and_overlap_hides_their_borders(tiling, shape, axis, place, errors, seams):
    model, video = model_of(HUNYUAN), video_of(*shape)
    latent = model.encode(video)
    decoded = model.decode(latent)

    def measured(overlap, at):
        model.tiling = replace(tiling, overlap=overlap, frame_overlap=overlap)
        code, picture = model.encode(video), model.decode(latent)
        pixel = (at - 1) * 4 + 1 if axis == 2 else at * 8
        steps = ((code, latent, at), (picture, decoded, pixel))
        return (
            [error(found, whole) for found, whole, _ in steps],
            [jump(found - whole, axis, border) / jump(whole, axis, border) for found, whole, border in steps],
        )

    found, borders = measured(0.25, place)
    _, hard = measured(0.0, place + (2 if axis == 2 else 4))
    for side in range(2):
        assert found[side] < errors[side]
        assert borders[side] < seams[side]
        assert borders[side] < 0.5 * hard[side]


@pytest.mark.parametrize("config", [DC_AE, HUNYUAN])
def test_memory_does_not_grow_with_the_number_of_frames(config):
    model = model_of(config)
    tiling = IN_TIME[model.kind]
    peaks = {}
    for frames in (config.nearest_frames(128), config.nearest_frames(256)):
        latent = torch.zeros(1, *model.latent_shape(frames, 16, 16))

        def encode_stream(frames=frames):
            chunks = (torch.zeros(1, 3, min(8, frames - start), 16, 16) for start in range(0, frames, 8))
            return sum(piece.shape[2] for piece in model.encode_stream(chunks, tiling=tiling))

        def decode_stream(latent=latent):
            return sum(piece.shape[2] for piece in model.decode_stream(latent.split(3, 2), tiling=tiling))

        def encode_tiled(video=torch.zeros(1, 3, frames, 16, 16)):  # noqa: B008
            model.tiling = tiling
            return model.encode(video)

        def encode_whole(video=torch.zeros(1, 3, frames, 16, 16)):  # noqa: B008
            model.tiling = None
            return model.encode(video)

        for work in (encode_stream, decode_stream, encode_tiled, encode_whole):
            with PeakMemory() as memory:
                work()
            peaks.setdefault(work.__name__, []).append(memory.peak)
    for name in ("encode_stream", "decode_stream"):
        assert peaks[name][1] == peaks[name][0], name
    # of the tiled encode only the latents grow, which are held in pieces and joined
    assert peaks["encode_tiled"][1] - peaks["encode_tiled"][0] <= 2 * latent.nbytes
    assert peaks["encode_whole"][1] > 1.9 * peaks["encode_whole"][0]


def test_memory_counts_what_is_made_and_lives():
    before = torch.zeros(1000)
    with PeakMemory() as memory:
        view = before.view(10, 100)
        first = view + 1
        assert (memory.live, memory.peak) == (4000, 4000)
        del first
        assert memory.live == 0
        second = torch.zeros(500)
        third = second.view(-1)
        del second
        assert (memory.live, memory.peak) == (2000, 4000)
        del third
    assert memory.live == 0
