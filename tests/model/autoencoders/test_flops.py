"""FLOPs formulas against PyTorch's counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoetrope.model.autoencoders import DCAEConfig, HunyuanVideoConfig, TilingConfig, build_autoencoder
from zoetrope.model.autoencoders.flops import decoder_flops, encoder_flops

HUNYUAN = HunyuanVideoConfig(latent_channels=4, widths=(8, 16, 24, 32), groups=4, resnets=1)
DC_AE = DCAEConfig(
    latent_channels=8,
    widths=(8, 16, 32),
    encoder_depths=(1, 2, 1),
    decoder_depths=(1, 1, 2),
    blocks=("ResBlock", "ResBlock", "EViT_GLU"),
    temporal=(True, True),
    head_dim=8,
    expand_ratio=2,
)


def counted(work, *arguments, **options):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        result = work(*arguments, **options)
    return counter.get_total_flops(), result


@pytest.mark.parametrize(
    ("config", "shape", "device"),
    [
        (HUNYUAN, (1, 16, 24), "cpu"),
        (HUNYUAN, (9, 24, 16), "cpu"),
        (HunyuanVideoConfig(), (33, 256, 256), "meta"),
        (HunyuanVideoConfig(), (5, 128, 192), "meta"),
        (DC_AE, (1, 8, 12), "cpu"),
        (DC_AE, (4, 8, 12), "cpu"),
        (DCAEConfig.nano(), (1, 16, 24), "cpu"),
        (DCAEConfig.nano(), (16, 24, 16), "cpu"),
        (DCAEConfig(), (32, 256, 256), "meta"),
        (DCAEConfig(), (1, 64, 96), "meta"),
    ],
)
def test_formulas_are_exact(config, shape, device):
    with torch.device(device):
        model, video = build_autoencoder(config), torch.zeros(1, 3, *shape)
    found, latent = counted(model.encode, video)
    assert found == encoder_flops(config, *shape)
    found, decoded = counted(model.decode, latent, single_frame=shape[0] == 1)
    assert decoded.shape == video.shape
    assert found == decoder_flops(config, *shape)


@pytest.mark.parametrize(("config", "frames"), [(HUNYUAN, 33), (DC_AE, 36)])
def test_tiles_are_counted_one_by_one(config, frames):
    tiling = TilingConfig(pixels=16, overlap=0.5, frames=16, frame_overlap=0.25)
    with torch.device("meta"):
        model, video = build_autoencoder(config), torch.zeros(1, 3, frames, 40, 24)
    model.tiling = tiling
    found, latent = counted(model.encode, video)
    assert found == encoder_flops(config, frames, 40, 24, tiling)
    assert found > encoder_flops(config, frames, 40, 24) * 0.9
    assert counted(model.decode, latent)[0] == decoder_flops(config, frames, 40, 24, tiling)


def test_a_size_that_is_not_taken_has_no_flops():
    with pytest.raises(ValueError, match="34 frames"):
        encoder_flops(HUNYUAN, 34, 16, 16)
