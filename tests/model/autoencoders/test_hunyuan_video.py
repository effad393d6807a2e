"""HunyuanVideo's autoencoder against diffusers' class with equal weights, and against the published file's layout."""

from dataclasses import asdict

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo

from zoetrope.model.autoencoders import HunyuanVideoConfig, TilingConfig, build_autoencoder, load_autoencoder
from zoetrope.model.checkpoint import save_weights

TINY = HunyuanVideoConfig(latent_channels=4, widths=(8, 16, 24, 24), groups=4)
BOUND = 1e-5


def pair(config=TINY, seed=0):
    """(ours, diffusers') with equal random weights; diffusers' tiles are off."""
    torch.manual_seed(seed)
    reference = AutoencoderKLHunyuanVideo(
        latent_channels=config.latent_channels, block_out_channels=config.widths, norm_num_groups=config.groups
    )
    reference.use_framewise_encoding = reference.use_framewise_decoding = False
    ours = build_autoencoder(config)
    ours.load_state_dict(reference.state_dict())
    return ours, reference


def difference(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def published_shapes():
    """Keys and shapes of hunyuan_vae.safetensors, written down from its description."""
    shapes = {}

    def conv(name, inputs, outputs, kernel=3, inner=".conv"):
        shapes[f"{name}{inner}.weight"] = (outputs, inputs, kernel, kernel, kernel)
        shapes[f"{name}{inner}.bias"] = (outputs,)

    def vectors(name, width):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def resnet(name, inputs, outputs):
        vectors(f"{name}.norm1", inputs)
        conv(f"{name}.conv1", inputs, outputs)
        vectors(f"{name}.norm2", outputs)
        conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            conv(f"{name}.conv_shortcut", inputs, outputs, 1)

    for part, blocks, sampler, widths, count in (
        ("encoder", "down_blocks", "downsamplers", (128, 128, 256, 512, 512), 2),
        ("decoder", "up_blocks", "upsamplers", (512, 512, 512, 256, 128), 3),
    ):
        for block in range(4):
            for unit in range(count):
                inputs = widths[block] if unit == 0 else widths[block + 1]
                resnet(f"{part}.{blocks}.{block}.resnets.{unit}", inputs, widths[block + 1])
            if block < 3:
                conv(f"{part}.{blocks}.{block}.{sampler}.0.conv", widths[block + 1], widths[block + 1])
        for unit in range(2):
            resnet(f"{part}.mid_block.resnets.{unit}", 512, 512)
        attention = f"{part}.mid_block.attentions.0"
        vectors(f"{attention}.group_norm", 512)
        for linear in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes[f"{attention}.{linear}.weight"], shapes[f"{attention}.{linear}.bias"] = (512, 512), (512,)
        vectors(f"{part}.conv_norm_out", widths[-1])
    conv("encoder.conv_in", 3, 128)
    conv("encoder.conv_out", 512, 32)
    conv("decoder.conv_in", 16, 512)
    conv("decoder.conv_out", 128, 3)
    conv("quant_conv", 32, 32, 1, inner="")
    conv("post_quant_conv", 16, 16, 1, inner="")
    return shapes


def test_names_shapes_and_size_of_the_published_file():
    with torch.device("meta"):
        ours, reference = build_autoencoder(HunyuanVideoConfig.open_sora_v2()), AutoencoderKLHunyuanVideo()
    found = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    assert found == published_shapes()
    assert found == {name: tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in ours.named_children()}
    assert count == {
        "encoder": 100_341_408, "decoder": 146_136_067, "quant_conv": 1_056, "post_quant_conv": 272,
    }  # fmt: skip
    assert sum(count.values()) == 246_478_803


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 24), (5, 32, 16), (17, 16, 16)])
def test_parity_with_diffusers(frames, height, width):
    ours, reference = pair()
    video = torch.randn(2, 3, frames, height, width)
    mean, log_variance = ours.encode_moments(video)
    posterior = reference.encode(video).latent_dist
    assert mean.shape == (2, *ours.latent_shape(frames, height, width))
    assert difference(mean, posterior.mean) < BOUND
    assert difference(log_variance, posterior.logvar) < BOUND
    assert torch.equal(ours.encode(video), mean)
    sample = posterior.sample(torch.Generator().manual_seed(3))
    assert difference(ours.encode(video, generator=torch.Generator().manual_seed(3)), sample) < BOUND
    latent = torch.randn_like(mean)
    decoded = ours.decode(latent)
    assert decoded.shape == video.shape
    assert difference(decoded, reference.decode(latent).sample) < BOUND


def test_gradients_are_those_of_diffusers():
    ours, reference = pair()
    video = torch.randn(2, 3, 5, 32, 32, requires_grad=True)
    copy = video.detach().clone().requires_grad_()
    target = torch.randn(video.shape)
    (ours(video) * target).mean().backward()
    (reference.decode(reference.encode(copy).latent_dist.mean).sample * target).mean().backward()
    assert difference(video.grad, copy.grad) < BOUND
    expected = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        if name.endswith("to_k.bias"):  # softmax does not see it: its gradient is zero but for rounding
            continue
        assert difference(parameter.grad, expected[name].grad) < BOUND, name


def test_a_frame_does_not_depend_on_later_ones_but_for_the_norms_statistics():
    """Causal convolutions and attention: with norms that see no frames, the first latent frames stay."""
    ours, _ = pair()
    for module in ours.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
    video = torch.randn(1, 3, 17, 16, 16)
    changed = video.clone()
    changed[:, :, 9:] += 1
    before, after = ours.encode(video), ours.encode(changed)
    torch.testing.assert_close(before[:, :, :3], after[:, :, :3])
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:])
    decoded = ours.decode(before)
    torch.testing.assert_close(decoded[:, :, :9], ours.decode(before[:, :, :3]))


@pytest.mark.parametrize("axis", ["height", "width", "frames"])
def test_tiles_are_blended_as_diffusers_blends_them(axis):
    ours, reference = pair()
    # whole numbers of strides, since diffusers adds a last tile to others, which repeats what is done
    sizes = {"frames": 5, "height": 24, "width": 24, axis: 25 if axis == "frames" else 48}
    video = torch.randn(1, 3, *sizes.values())
    reference.enable_tiling(32, 32, 16, 24, 24, 12)
    reference.use_framewise_encoding = reference.use_framewise_decoding = True
    if axis == "frames":
        ours.tiling = TilingConfig(pixels=0, frames=16, frame_overlap=0.25)
    else:
        ours.tiling = TilingConfig(pixels=32, overlap=0.25)
    posterior = reference.encode(video).latent_dist
    mean, log_variance = ours.encode_moments(video)
    assert difference(mean, posterior.mean) < BOUND
    assert difference(log_variance, posterior.logvar) < BOUND
    latent = torch.randn_like(mean)
    assert difference(ours.decode(latent), reference.decode(latent).sample) < BOUND
    ours.tiling = None
    assert difference(ours.encode(video), posterior.mean) > 1e-3  # the tiles were really there


def test_latents_are_scaled_by_the_released_factor():
    config = HunyuanVideoConfig.open_sora_v2()
    mean, std = config.latent_statistics
    assert (mean, len(std)) == ([0.0] * 16, 16)
    assert 1 / std[0] == pytest.approx(0.476986)


def test_a_file_loads_strictly(tmp_path):
    ours, reference = pair()
    path = save_weights(reference, tmp_path / "vae.safetensors")
    loaded = load_autoencoder("hunyuan_video", asdict(TINY), path)
    video = torch.randn(1, 3, 5, 16, 16)
    assert torch.equal(loaded.encode(video), ours.encode(video))
    assert not loaded.training
    state = reference.state_dict()
    save_weights({name: state[name] for name in list(state)[1:]}, path)
    with pytest.raises(ValueError, match=r"1 missing \(encoder\.conv_in\.conv\.weight"):
        load_autoencoder("hunyuan_video", asdict(TINY), path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 8)}, "2 widths need 1 entries of temporal"),
        ({"groups": 24}, "multiples of the 24 groups"),
        ({"scaling_factor": 0.0}, "scaling_factor has to be positive, not 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HunyuanVideoConfig(**fields)
