"""What blocks keep for the backward pass, counted; and that it changes no gradient."""

import pytest
import torch

from zoetrope.model.memory import PeakMemory
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.packing import image_ids, text_ids
from zoetrope.model.parallel import CheckpointedBlocks, ParallelConfig
from zoetrope.model.parallel.checkpointing import checkpoint_blocks, offloaded

SAMPLES, TEXT, WIDTH = 2, 32, 256
IDS = image_ids(SAMPLES, 2, 16, 16, 2)
TOKENS = SAMPLES * (TEXT + IDS.shape[1])


def model_of(double, single, keeps, dtype=torch.float32):
    config = MMDiTConfig(
        in_channels=16, vec_in_dim=12, context_in_dim=20, hidden_size=WIDTH, num_heads=2, depth=double,
        depth_single_blocks=single, axes_dim=(16, 56, 56),
    )  # fmt: skip
    model = MMDiT(config).initialise(0)
    with torch.no_grad():  # modulations start at zero, and would hide wrong gradients
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    checkpoint_blocks(model, ParallelConfig(checkpointing=keeps))
    return model.to(dtype)


def forward(model, *, packed=False):
    generator, dtype = torch.Generator().manual_seed(1), model.img_in.weight.dtype
    tokens = {
        "img": torch.randn(*IDS.shape[:2], 16, generator=generator).to(dtype),
        "img_ids": IDS,
        "txt": torch.randn(SAMPLES, TEXT, 20, generator=generator).to(dtype),
        "txt_ids": text_ids(SAMPLES, TEXT),
    }
    rest = {"timesteps": torch.tensor([0.2, 0.7]), "y_vec": torch.ones(SAMPLES, 12, dtype=dtype)}
    if not packed:
        return model(**tokens, **rest)
    ends = {f"{name}_cumulative": torch.arange(SAMPLES + 1) * tokens[name].shape[1] for name in ("img", "txt")}
    return model.forward_packed(**{name: each.flatten(0, 1) for name, each in tokens.items()}, **rest, **ends)


def kept(double, single, keeps, dtype, packed):
    model = model_of(double, single, keeps, dtype)
    with PeakMemory() as memory:
        out = forward(model, packed=packed)
        return memory.live - out.nbytes


def gradients_of(model):
    """Of all weights but cond_in's: no condition is given."""
    return {name: each.grad for name, each in model.named_parameters() if not name.startswith("cond_in")}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "keeps", "limits"),
    [
        (torch.float32, "none", (133, 101)),
        (torch.bfloat16, "none", (75, 59)),
        (torch.float32, "selective", (46, 46)),
        (torch.bfloat16, "selective", (24, 24)),
        (torch.float32, "full", (4.1, 4.1)),
        (torch.bfloat16, "full", (2.1, 2.1)),
    ],
)
def test_bytes_of_activations_a_token_feature_and_block(dtype, keeps, limits, packed):
    fewest = kept(1, 1, keeps, dtype, packed)
    for (double, single), limit in zip(((2, 1), (1, 2)), limits, strict=True):
        grown = kept(double, single, keeps, dtype, packed) - fewest
        assert 0 < grown / (TOKENS * WIDTH) < limit


def test_full_checkpointing_of_some_blocks_leaves_the_others():
    first = CheckpointedBlocks(double=1, single=2)
    config = ParallelConfig(checkpointing=first)
    assert [config.keeps("double", index) for index in range(3)] == ["full", "none", "none"]
    assert [config.keeps("single", index) for index in range(3)] == ["full", "full", "none"]


@pytest.mark.parametrize("keeps", ["selective", "full", CheckpointedBlocks(1, 0)])
def test_gradients_are_those_of_a_model_that_keeps_all(keeps):
    gradients = []
    for kind in ("none", keeps):
        model = model_of(1, 1, kind)
        forward(model).square().sum().backward()
        gradients.append(gradients_of(model))
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def test_offloaded_inputs_come_back_exactly():
    gradients = []
    for offload in (False, True):
        model = model_of(1, 1, "full")
        if offload:
            for block in (*model.double_blocks, *model.single_blocks):
                block.forward = offloaded(block.forward)
        forward(model).square().sum().backward()
        gradients.append(gradients_of(model))
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())


def test_a_compiled_block_computes_the_same():
    out, gradients = [], []
    for compiled in (False, True):
        model = model_of(1, 1, "selective")
        if compiled:
            # as `apply_parallel` does, without the compiler's minute; the single block is the cheaper one
            model.single_blocks[0].compile(backend="aot_eager")
        out.append(forward(model))
        out[-1].square().sum().backward()
        gradients.append(gradients_of(model)["single_blocks.0.linear2.weight"])
    assert torch.allclose(*out, rtol=1e-5, atol=1e-5)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4 * gradients[0].abs().max().item())
