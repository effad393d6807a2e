"""The MMDiT against diffusers' FLUX with the same random weights, brought over by the converter."""

from dataclasses import replace

import pytest
import torch
from diffusers import FluxTransformer2DModel

from zoetrope.model.checkpoint import load_weights, save_weights
from zoetrope.model.mmdit.flux import NOT_IN_FLUX, FluxWeights
from zoetrope.model.mmdit.model import MMDiT


def flux(config, *, guidance=False):
    return FluxTransformer2DModel(
        in_channels=config.in_channels,
        num_layers=config.depth,
        num_single_layers=config.depth_single_blocks,
        attention_head_dim=config.head_dim,
        num_attention_heads=config.num_heads,
        joint_attention_dim=config.context_in_dim,
        pooled_projection_dim=config.vec_in_dim,
        guidance_embeds=guidance,
        axes_dims_rope=config.axes_dim,
    )


def flux_forward(model, given):
    return model(
        hidden_states=given["img"],
        encoder_hidden_states=given["txt"],
        pooled_projections=given["y_vec"],
        timestep=given["timesteps"],
        img_ids=given["img_ids"][0].float(),
        txt_ids=given["txt_ids"][0].float(),
        return_dict=False,
    )[0]


@pytest.fixture
def pair(small, tmp_path):
    """diffusers' model, ours with the same weights, and the inputs; positions differ along all three axes."""
    config = replace(small.config, cond_embed=False)
    reference = small.randomise(flux(config))
    ours = MMDiT(config)
    load_weights(ours, FluxWeights(save_weights(reference, tmp_path / "flux.safetensors"), config))
    given = small.inputs(config)
    assert len(given["img_ids"][..., 0].unique()) == 3
    return reference, ours, given


def test_forward_and_every_gradient_equal_diffusers(pair, small, tmp_path):
    reference, ours, given = pair
    leaves = [{name: value.clone().requires_grad_() for name, value in given.items() if value.is_floating_point()}
              for _ in range(2)]  # fmt: skip
    wanted = flux_forward(reference, {**given, **leaves[0]})
    found = ours(**{**given, **leaves[1]})
    assert small.difference(found, wanted) < 1e-5
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
    (wanted * weight).sum().backward()
    (found * weight).sum().backward()
    for name, leaf in leaves[0].items():
        assert small.difference(leaves[1][name].grad, leaf.grad) < 1e-5, name
    # gradients change places as their weights do, so the converter brings them over too
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    view = FluxWeights(save_weights(gradients, tmp_path / "gradients.safetensors"), ours.config)
    for name, parameter in ours.named_parameters():
        assert small.difference(parameter.grad, view.read(name)) < 1e-5, name


def test_in_bfloat16_the_direction_is_the_same(pair):
    reference, ours, given = pair
    wanted = ours(**given)
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in given.items()}
    found = ours.bfloat16()(**{**half, "timesteps": given["timesteps"]})
    assert found.dtype == torch.bfloat16
    assert torch.cosine_similarity(found.float().flatten(), wanted.flatten(), 0) > 0.999
    # diffusers rounds the time as the released code does
    found, theirs = ours(**half), flux_forward(reference.bfloat16(), half)
    assert torch.cosine_similarity(found.float().flatten(), theirs.float().flatten(), 0) > 0.999


def original_layout(config, small):
    """diffusers' random model and the same tensors as `flux1-dev.safetensors` has them, guidance included."""
    reference = small.randomise(flux(config, guidance=True))
    theirs = reference.state_dict()
    ours = {}

    def put(name, *sources, kinds=("weight", "bias")):
        for kind in kinds:
            ours[f"{name}.{kind}"] = torch.cat([theirs[f"{source}.{kind}"] for source in sources])

    def put_norms(name, query, key):
        for which, source in (("query", query), ("key", key)):
            ours[f"{name}.norm.{which}_norm.scale"] = theirs[f"{source}.weight"]

    embed = "time_text_embed"
    for name, source in (("time_in", "timestep"), ("vector_in", "text"), ("guidance_in", "guidance")):
        put(f"{name}.in_layer", f"{embed}.{source}_embedder.linear_1")
        put(f"{name}.out_layer", f"{embed}.{source}_embedder.linear_2")
    put("img_in", "x_embedder")
    put("txt_in", "context_embedder")
    put("final_layer.linear", "proj_out")
    for kind in ("weight", "bias"):
        scale, shift = theirs[f"norm_out.linear.{kind}"].chunk(2)
        ours[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for i in range(config.depth):
        block, source = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for stream, suffix in (("img", ""), ("txt", "_context")):
            put(f"{block}.{stream}_mod.lin", f"{source}.norm1{suffix}.linear")
            put(f"{block}.{stream}_mlp.0", f"{source}.ff{suffix}.net.0.proj")
            put(f"{block}.{stream}_mlp.2", f"{source}.ff{suffix}.net.2")
        attention = f"{source}.attn"
        put(f"{block}.img_attn.qkv", *(f"{attention}.to_{which}" for which in "qkv"))
        put(f"{block}.txt_attn.qkv", *(f"{attention}.add_{which}_proj" for which in "qkv"))
        put(f"{block}.img_attn.proj", f"{attention}.to_out.0")
        put(f"{block}.txt_attn.proj", f"{attention}.to_add_out")
        put_norms(f"{block}.img_attn", f"{attention}.norm_q", f"{attention}.norm_k")
        put_norms(f"{block}.txt_attn", f"{attention}.norm_added_q", f"{attention}.norm_added_k")
    for i in range(config.depth_single_blocks):
        block, source = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        put(f"{block}.modulation.lin", f"{source}.norm.linear")
        put(f"{block}.linear1", *(f"{source}.attn.to_{which}" for which in "qkv"), f"{source}.proj_mlp")
        put(f"{block}.linear2", f"{source}.proj_out")
        put_norms(block, f"{source}.attn.norm_q", f"{source}.attn.norm_k")
    return reference, ours


def test_the_original_layout_gives_the_same_model(small, tmp_path):
    reference, tensors = original_layout(small.config, small)
    shards = tmp_path / "flux1-dev.safetensors", tmp_path / "diffusers.safetensors"
    save_weights(tensors, shards[0])
    save_weights(reference, shards[1])
    models = []
    for path in shards:
        model = MMDiT(small.config).initialise(0)
        load_weights(model, FluxWeights(path, small.config), may_miss=NOT_IN_FLUX)
        assert not model.cond_in.weight.any()
        models.append(model.state_dict())
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name]), name


def test_what_is_not_flux_is_refused(small, tmp_path):
    ours = MMDiT(small.config)
    with pytest.raises(ValueError, match="neither FLUX's original layout"):
        FluxWeights(save_weights(ours, tmp_path / "ours.safetensors"), small.config)
    _, tensors = original_layout(replace(small.config, depth=3), small)
    deeper = save_weights(tensors, tmp_path / "deeper.safetensors")
    with pytest.raises(ValueError, match=r"have no place in the model \(double_blocks\.2"):
        FluxWeights(deeper, small.config)
    _, tensors = original_layout(replace(small.config, depth=1), small)
    shallow = save_weights(tensors, tmp_path / "shallow.safetensors")
    with pytest.raises(ValueError, match=r"missing \(double_blocks\.1"):
        load_weights(ours, FluxWeights(shallow, small.config), may_miss=NOT_IN_FLUX)
