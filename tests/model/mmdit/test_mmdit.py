"""The MMDiT against the published shapes and its own invariants."""

from dataclasses import replace

import pytest
import torch

from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.layers import apply_rotary, rotary_table, timestep_embedding
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids

TINY = MMDiTConfig(
    in_channels=8,
    vec_in_dim=6,
    context_in_dim=10,
    hidden_size=24,
    mlp_ratio=2,
    num_heads=2,
    depth=1,
    depth_single_blocks=1,
    axes_dim=(4, 4, 4),
)


def tiny(config=TINY):
    model = MMDiT(config).initialise(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # no zeros, so that every part takes part
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(text_length=3, batch=2):
    generator = torch.Generator().manual_seed(2)
    return {
        "img": torch.randn(batch, 8, 8, generator=generator),
        "img_ids": image_ids(batch, 2, 4, 4, 2),
        "txt": torch.randn(batch, text_length, 10, generator=generator),
        "txt_ids": text_ids(batch, text_length),
        "timesteps": torch.rand(batch, generator=generator),
        "y_vec": torch.randn(batch, 6, generator=generator),
    }


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (MMDiTConfig.open_sora_v2(), 11_891_390_528),
        (MMDiTConfig.open_sora_v2(cond_embed=False), 11_891_178_560),
        (MMDiTConfig.dc_ae(), 11_891_971_200),
    ],
)
def test_parameter_counts_of_the_paper(config, parameters):
    with torch.device("meta"):
        model = MMDiT(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_names_and_shapes_of_the_published_weights():
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in MMDiT(MMDiTConfig.open_sora_v2()).state_dict().items()}
    published = {
        "img_in.weight": (3072, 64),
        "time_in.in_layer.weight": (3072, 256),
        "time_in.out_layer.bias": (3072,),
        "vector_in.in_layer.weight": (3072, 768),
        "cond_in.weight": (3072, 68),
        "txt_in.weight": (3072, 4096),
        "double_blocks.18.img_mod.lin.weight": (18432, 3072),
        "double_blocks.0.txt_mod.lin.bias": (18432,),
        "double_blocks.0.img_attn.q_proj.weight": (3072, 3072),
        "double_blocks.0.txt_attn.v_proj.bias": (3072,),
        "double_blocks.0.txt_attn.norm.query_norm.scale": (128,),
        "double_blocks.0.img_attn.proj.weight": (3072, 3072),
        "double_blocks.0.img_mlp.0.weight": (12288, 3072),
        "double_blocks.0.txt_mlp.2.weight": (3072, 12288),
        "single_blocks.37.modulation.lin.weight": (9216, 3072),
        "single_blocks.0.k_proj.weight": (3072, 3072),
        "single_blocks.0.v_mlp.weight": (15360, 3072),
        "single_blocks.0.linear2.weight": (3072, 15360),
        "single_blocks.0.norm.key_norm.scale": (128,),
        "final_layer.linear.weight": (64, 3072),
        "final_layer.adaLN_modulation.1.weight": (6144, 3072),
    }
    assert {name: shapes.get(name) for name in published} == published
    per_double, per_single, rest = 32, 12, 18
    assert len(shapes) == 19 * per_double + 38 * per_single + rest


def test_padding_of_the_text_takes_no_part():
    model, given = tiny(), inputs()
    exact = model(**given)
    padded = {**given, "txt": torch.cat([given["txt"], 100 * torch.ones(2, 4, 10)], dim=1), "txt_ids": text_ids(2, 7)}
    masked = model(**padded, txt_len=torch.tensor([3, 3]))
    torch.testing.assert_close(masked, exact)
    assert not torch.allclose(model(**padded), exact, atol=1e-3)


def test_a_new_condition_changes_nothing_until_it_is_learned():
    model, given = tiny(), inputs()
    torch.nn.init.zeros_(model.cond_in.weight)
    torch.nn.init.zeros_(model.cond_in.bias)
    condition = torch.randn(2, 8, TINY.cond_channels)
    torch.testing.assert_close(model(**given, cond=condition), model(**given))
    fresh = MMDiT(TINY).initialise(3)
    assert not fresh.cond_in.weight.any()


def test_a_text_to_video_model_takes_no_images():
    model = MMDiT(replace(TINY, cond_embed=False)).initialise(0)
    with pytest.raises(ValueError, match="cond_embed"):
        model(**inputs(), cond=torch.zeros(2, 8, 12))


def test_order_of_image_tokens_is_in_their_positions_alone():
    model, given = tiny(), inputs()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    shuffled = {**given, "img": given["img"][:, order], "img_ids": given["img_ids"][:, order]}
    torch.testing.assert_close(model(**shuffled), model(**given)[:, order])
    assert not torch.allclose(model(**{**given, "img": given["img"][:, order]}), model(**given)[:, order], atol=1e-3)


def test_attention_depends_on_relative_positions():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 12, generator=generator)

    def product(first, second):
        ids = torch.tensor([[first, second]])
        cos, sin = rotary_table(ids, (4, 4, 4), 10_000)
        both = torch.cat([query, key], dim=1)
        turned = apply_rotary(both, cos, sin)
        return (turned[0, 0, 0] * turned[0, 1, 0]).sum()

    near = product([0, 1, 2], [3, 1, 4])
    torch.testing.assert_close(product([5, 7, 9], [8, 7, 11]), near)
    assert abs(product([0, 1, 2], [4, 1, 4]) - near) > 1e-3


def test_rotation_pairs_the_two_halves():
    cos, sin = rotary_table(torch.tensor([[[1, 0, 0]]]), (2, 2, 2), 10_000)
    x = torch.tensor([1.0, 0, 0, 0, 0, 0]).view(1, 1, 1, 6)
    expected = [torch.tensor(1.0).cos(), 0, 0, torch.tensor(1.0).sin(), 0, 0]
    torch.testing.assert_close(apply_rotary(x, cos, sin).flatten(), torch.tensor(expected))


def test_time_embedding_has_cosines_first():
    embedding = timestep_embedding(torch.tensor([0.0, 0.5]), 8)
    assert embedding[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    torch.testing.assert_close(embedding[1, 0], torch.tensor(500.0).cos())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 32}, "num_heads 2 x head dimension 12"),
        ({"in_channels": 6}, "multiple of patch_size"),
        ({"axes_dim": (3, 5, 4)}, "have to be even"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
