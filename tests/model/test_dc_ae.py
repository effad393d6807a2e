"""The Video DC-AE against the published shapes and the properties of its shortcuts."""

from dataclasses import asdict

import pytest
import torch

from zoetrope.model.autoencoders import DCAEConfig, load_autoencoder
from zoetrope.model.autoencoders.blocks import (
    EfficientViTBlock,
    channel_to_space,
    enlarge_by_repeating,
    shrink_by_averaging,
    space_to_channel,
)
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import save_weights

TINY = DCAEConfig(
    latent_channels=4,
    widths=(4, 24, 8),
    encoder_depths=(0, 1, 1),
    decoder_depths=(0, 1, 1),
    blocks=("ResBlock", "ResBlock", "EViT_GLU"),
    temporal=(True, True),
    head_dim=4,
    expand_ratio=2,
)


def test_size_and_names_of_the_published_model():
    with torch.device("meta"):
        model = VideoDCAE(DCAEConfig.open_sora_v2())
        video = torch.zeros(1, 3, 32, 256, 256)
        assert model.encode(video).shape == (1, 128, 8, 8, 8)
        assert model(video).shape == video.shape
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count == {"encoder": 220_439_936, "decoder": 239_022_211}
    names = set(model.state_dict())
    assert names >= {
        "encoder.project_in.conv.weight",
        "encoder.stages.0.op_list.0.main.conv1.conv.bias",
        "encoder.stages.0.op_list.1.main.conv2.norm.weight",
        "encoder.stages.0.op_list.2.main.conv.weight",
        "encoder.stages.5.op_list.0.context_module.main.qkv.conv.weight",
        "encoder.stages.5.op_list.0.context_module.main.aggreg.0.1.weight",
        "encoder.stages.5.op_list.2.local_module.main.depth_conv.conv.bias",
        "encoder.project_out.main.op_list.0.conv.weight",
        "decoder.project_in.main.conv.weight",
        "decoder.stages.4.op_list.0.main.conv.conv.weight",
        "decoder.project_out.op_list.0.weight",
        "decoder.project_out.op_list.2.conv.bias",
    }
    assert "encoder.stages.0.op_list.0.main.conv2.conv.bias" not in names


@pytest.mark.parametrize("config", [TINY, DCAEConfig.nano()])
@pytest.mark.parametrize("frames", [1, 8])
def test_an_untrained_model_keeps_a_colour_through_its_shortcuts(config, frames):
    model = VideoDCAE(config).initialise(0)
    grey = torch.full((1, 3, frames, 16, 16), 0.5)
    torch.testing.assert_close(model(grey), grey)
    assert model.encode(grey).shape == (1, *config.latent_shape(frames, 16, 16))


def test_shortcuts_shrink_by_means_and_enlarge_by_copies():
    video = torch.arange(2 * 3 * 4 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4, 4)
    factor = (2, 2, 2)
    unshuffled = space_to_channel(video, factor)
    assert unshuffled.shape == (2, 24, 2, 2, 2)
    assert torch.equal(channel_to_space(unshuffled, factor), video)
    means = torch.nn.functional.avg_pool3d(video, 2)
    torch.testing.assert_close(shrink_by_averaging(video, 3, factor), means)
    copies = enlarge_by_repeating(means, 3, factor, single_frame=False)
    torch.testing.assert_close(copies, means.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4))


def test_a_single_frame_is_shrunk_in_space_alone():
    image = torch.randn(1, 3, 1, 4, 4)
    assert shrink_by_averaging(image, 24, (2, 2, 2)).shape == (1, 24, 1, 2, 2)
    back = enlarge_by_repeating(shrink_by_averaging(image, 24, (2, 2, 2)), 3, (2, 2, 2), single_frame=True)
    torch.testing.assert_close(back, image)


def test_linear_attention_sees_the_whole_video():
    torch.manual_seed(0)
    block = EfficientViTBlock(8, head_dim=4, expand_ratio=2).eval()
    video = torch.randn(1, 8, 4, 16, 16, requires_grad=True)
    block(video)[0, 0, 0, 0, 0].backward()
    assert video.grad[0, :, 3, 15, 15].abs().sum() > 0


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="3 widths need 3"):
        DCAEConfig(widths=(1, 2, 3))


def test_a_saved_model_is_the_same_model(tmp_path):
    model = VideoDCAE(TINY).initialise(1)
    path = save_weights(model, tmp_path / "ae.safetensors")
    loaded = load_autoencoder("dc_ae", {**asdict(TINY), "widths": list(TINY.widths)}, path)
    video = torch.randn(1, 3, 4, 8, 8)
    assert torch.equal(loaded(video), model(video))
    with pytest.raises(ValueError, match="did you mean 'widths'"):
        load_autoencoder("dc_ae", {"width": [1]}, path)
