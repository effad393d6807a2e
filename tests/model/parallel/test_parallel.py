"""Parallel training against one process: loss, every gradient, memory of each rank, and equality of repeated runs."""

import pytest
import torch

from tests.model.parallel.cases import SHAPES, TINY, Case, all_of
from tests.model.parallel.ranks import run_ranks
from zoetrope.model.checkpoint import save_weights
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.parallel import CheckpointedBlocks, ParallelConfig

CASES = {
    1: {"alone, padded, 3 packs": Case(ParallelConfig(checkpointing="selective"), packs=3, padded=True)},
    2: {
        "fsdp": Case(ParallelConfig(shard=2)),
        "fsdp, selective, 3 packs": Case(ParallelConfig(shard=2, checkpointing="selective"), packs=3),
        "zero-2, blocks, reduced once": Case(
            ParallelConfig(shard=2, reshard="never", checkpointing=CheckpointedBlocks(1, 1)), packs=2, reduce_each=False
        ),
        "replicate": Case(ParallelConfig(replicate=2)),
        "ulysses": Case(ParallelConfig(context=2)),
        "ulysses, selective, 8 packs": Case(ParallelConfig(context=2, checkpointing="selective"), packs=8),
        "bfloat16": Case(ParallelConfig(shard=2, compute="bfloat16", checkpointing="selective")),
    },
    3: {
        "fsdp": Case(ParallelConfig(shard=3)),
        "replicate": Case(ParallelConfig(replicate=3)),
        "ulysses, full": Case(ParallelConfig(context=3, checkpointing="full")),
    },
    4: {
        "fsdp": Case(ParallelConfig(shard=4)),
        "hsdp, 2 packs, selective": Case(ParallelConfig(replicate=2, shard=2, checkpointing="selective"), packs=2),
        "ulysses 4": Case(ParallelConfig(context=4)),
        "hsdp, ulysses, full": Case(ParallelConfig(replicate=2, context=2, checkpointing="full")),
        "fsdp, ulysses, padded": Case(ParallelConfig(shard=2, context=2), padded=True),
    },
}
SHARING = [
    (1, "alone, padded, 3 packs", 1),
    (2, "fsdp", 2),
    (2, "replicate", 1),
    (2, "ulysses", 2),
    (3, "fsdp", 3),
    (4, "fsdp", 4),
    (4, "hsdp, 2 packs, selective", 2),
    (4, "ulysses 4", 4),
]  # world, case, processes that share the weights
REPEATED = {
    1: [],
    2: ["fsdp", "ulysses"],
    3: ["replicate"],
    4: ["hsdp, ulysses, full"],
}


def named(world, names):
    return [Case(**{**vars(CASES[world][name]), "name": name}) for name in names]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    model = MMDiT(TINY)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            small = noise * parameter.shape[1] ** -0.5 if parameter.ndim == 2 else 0.1 * noise
            parameter.copy_(small + name.endswith("scale"))
    weights = save_weights(model, folder / "weights.safetensors")
    results = {}
    for world, cases in CASES.items():
        repeats = named(world, REPEATED[world])
        results[world] = run_ranks(all_of, world, folder / str(world), weights, named(world, cases), repeats)
    return results


@pytest.mark.parametrize(("world", "name"), [(world, name) for world, cases in CASES.items() for name in cases])
def test_loss_and_every_gradient_equal_those_of_one_process(found, world, name):
    loss, gradient = (2e-3, 0.1) if name == "bfloat16" else (1e-5, 1e-5)
    for rank in found[world]:
        assert rank["compared"][name]["loss"] < loss
        assert rank["compared"][name]["gradient"] < gradient
        assert rank["compared"][name]["norm"] < gradient
        assert rank["compared"][name]["clipped"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("world", "name"), [(world, name) for world, names in REPEATED.items() for name in names])
def test_a_run_and_one_split_at_a_save_are_bitwise_equal(found, world, name):
    for rank in found[world]:
        assert rank["repeated"][name]["equal"]
        assert torch.isfinite(rank["repeated"][name]["told"]).all()


def test_bytes_of_a_rank_fall_with_the_number_that_share_them(found):
    whole = 4 * sum(parameter.numel() for parameter in MMDiT(TINY).parameters())
    for world, name, sharing in SHARING:
        for rank in found[world]:
            seen = rank["compared"][name]
            # a dimension that does not divide is rounded up
            assert whole / sharing * 0.9 < seen["bytes"] < whole / sharing * 1.05
            assert seen["gradient_bytes"] == seen["bytes"]
            if name in rank["repeated"]:
                assert rank["repeated"][name]["bytes"] == 2 * seen["bytes"]


def test_no_rank_ever_holds_the_whole_model(found):
    whole = 4 * sum(parameter.numel() for parameter in MMDiT(TINY).parameters())
    largest = 4 * max(parameter.numel() for parameter in MMDiT(TINY).parameters())
    for rank in found[4]:
        assert rank["compared"]["fsdp"]["load_peak"] < whole / 4 * 1.1 + 2.5 * largest


def test_first_weights_of_a_seed_are_those_of_one_process(found):
    for rank in found[4]:
        assert rank["first_weights"] and all(rank["first_weights"].values())


def test_some_samples_do_not_divide_and_some_leave_ranks_without_tokens():
    tokens = [frames * height * width // 4 for _, frames, height, width in SHAPES]
    assert any(count < 4 for count in tokens) and any(count % 3 for count in tokens)
