"""The formulas against PyTorch's counter, the parameters of real modules and the published table."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from zoetrope.model.flops import (
    CLIP_L,
    T5_XXL,
    TextEncoderShape,
    image_tokens,
    mmdit_flops,
    mmdit_parameters,
    mmdit_training_flops,
    text_encoder_flops,
)
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids

SMALL = MMDiTConfig(
    in_channels=16, vec_in_dim=12, context_in_dim=20, hidden_size=64, num_heads=2, depth=2, depth_single_blocks=3,
    axes_dim=(8, 12, 12), mlp_ratio=3,
)  # fmt: skip


def counted(run):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def call(config, frames, height, width, text, *, batch=1, cond=False, grad=True):
    model = MMDiT(config)
    ids = image_ids(batch, frames, height, width, config.patch_size)
    tokens = ids.shape[1]
    given = (torch.randn(batch, tokens, config.in_channels), torch.randn(batch, text, config.context_in_dim),
             torch.rand(batch), torch.randn(batch, config.vec_in_dim))  # fmt: skip
    condition = torch.randn(batch, tokens, config.cond_channels) if cond else None
    for tensor in (*given, condition):
        if tensor is not None and grad:
            tensor.requires_grad_()
    img, txt, time, vector = given
    return tokens, lambda: model(img, ids, txt, text_ids(batch, text), time, vector, condition)


@pytest.mark.parametrize(
    ("config", "shape", "text"),
    [
        (SMALL, (1, 4, 4), 3),
        (SMALL, (5, 8, 12), 40),
        (replace(SMALL, depth=0), (3, 8, 8), 7),
        (replace(SMALL, depth_single_blocks=1, qkv_bias=False), (2, 16, 8), 64),
        (replace(SMALL, patch_size=1, in_channels=8), (2, 4, 6), 9),
        (MMDiTConfig.nano(), (4, 8, 8), 5),
    ],
)
def test_the_formula_equals_the_counter(config, shape, text):
    for cond in (False, True):
        tokens, forward = call(config, *shape, text, batch=2, cond=cond)
        wanted = 2 * mmdit_flops(config, tokens, text, conditioned=cond)
        assert counted(forward) == wanted
        both = counted(lambda forward=forward: forward().sum().backward())
        assert both == 2 * mmdit_training_flops(config, tokens, text, conditioned=cond) == 3 * wanted


@pytest.mark.parametrize(
    "config",
    [MMDiTConfig.open_sora_v2(), MMDiTConfig.open_sora_v2(cond_embed=False), MMDiTConfig.dc_ae(), SMALL,
     replace(SMALL, qkv_bias=False), MMDiTConfig.nano()],
)  # fmt: skip
def test_parameters_are_those_of_the_module(config):
    with torch.device("meta"):
        model = MMDiT(config)
    assert mmdit_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


# frames of video -> TFLOP of forward and backward of one sample with 512 text tokens, as published to four digits
TABLE = {
    "256px": {1: 31.0, 5: 41.9, 33: 125.8, 65: 238.2, 97: 368.2, 129: 515.8},
    "768px": {1: 125.8, 5: 253.5, 33: 1772, 65: 4845, 97: 9347, 129: 15276},
}


@pytest.mark.parametrize(("resolution", "side"), [("256px", 32), ("768px", 96)])
def test_the_table_of_the_11b_model(resolution, side):
    config = MMDiTConfig.open_sora_v2(cond_embed=False)
    for frames, published in TABLE[resolution].items():
        tokens = image_tokens(config, (16, 1 + (frames - 1) // 4, side, side))
        teraflops = mmdit_training_flops(config, tokens, 512) / 1e12
        assert float(f"{teraflops:.4g}") == pytest.approx(published, rel=2e-3 if published < 100 else 3e-4)


def test_the_table_of_the_dc_ae_variant():
    config = MMDiTConfig.dc_ae(cond_embed=False)
    for frames, published in {32: 254, 64: 576, 96: 987, 128: 1488}.items():
        tokens = image_tokens(config, (128, frames // 4, 24, 24))
        assert mmdit_training_flops(config, tokens, 512) / 1e12 == pytest.approx(published, rel=3e-3)


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"16 channels with height and width that divide by 2, found \[16, 1, 3, 4\]"):
        image_tokens(MMDiTConfig.open_sora_v2(), (16, 1, 3, 4))


@pytest.mark.parametrize("tokens", [3, 17, 64])
def test_text_encoders_equal_the_counter(tokens):
    t5 = T5EncoderModel(
        T5Config(vocab_size=20, d_model=24, d_kv=5, num_heads=3, d_ff=40, num_layers=2,
                 feed_forward_proj="gated-gelu")
    )  # fmt: skip
    clip = CLIPTextModel(
        CLIPTextConfig(vocab_size=20, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2)
    )
    ids = torch.ones(1, tokens, dtype=torch.int64)
    shape = TextEncoderShape(layers=2, width=24, attention_width=15, wide=40, gated=True)
    assert counted(lambda: t5(input_ids=ids)) == text_encoder_flops(shape, tokens)
    shape = TextEncoderShape(layers=3, width=24, attention_width=24, wide=40, gated=False)
    assert counted(lambda: clip(input_ids=ids)) == text_encoder_flops(shape, tokens)


def test_published_text_encoders():
    assert text_encoder_flops(T5_XXL, 512) / 1e12 == pytest.approx(4.84, rel=0.02)
    assert text_encoder_flops(CLIP_L, 77) / 1e9 == pytest.approx(13.3, rel=0.02)
