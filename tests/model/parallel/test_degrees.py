"""Which mesh a configuration means, and what is said of impossible ones."""

import pytest

from zoetrope.model.parallel import CheckpointedBlocks, ParallelConfig
from zoetrope.model.parallel.degrees import Degrees, resolve_degrees

PARAMETERS, H200 = 11_891_390_528, 141 * 10**9


@pytest.mark.parametrize(
    ("config", "world", "per_node", "memory", "wanted"),
    [
        ({}, 1, None, None, (1, 1, 1)),
        ({}, 4, None, None, (1, 4, 1)),
        ({}, 224, 8, H200, (28, 8, 1)),
        ({"context": 4}, 192, 8, H200, (24, 2, 4)),
        ({}, 224, 8, 40 * 10**9, (14, 16, 1)),
        ({"shard": 4}, 8, 8, None, (2, 4, 1)),
        ({"replicate": 8}, 8, 8, None, (8, 1, 1)),
        ({"replicate": 2, "context": 2}, 8, 8, None, (2, 2, 2)),
    ],
)
def test_auto_shards_within_a_node_and_beyond_it_where_memory_wants_it(config, world, per_node, memory, wanted):
    found = resolve_degrees(
        ParallelConfig(**config), world, heads=24, per_node=per_node, parameters=PARAMETERS, memory=memory
    )
    assert found == Degrees(*wanted)
    assert found.world == world


@pytest.mark.parametrize(
    ("config", "world", "message"),
    [
        ({"shard": 3}, 8, "shard 3 does not divide the 8 data-parallel ranks"),
        ({"replicate": 2, "shard": 2}, 8, "2 x shard 2 x context 1 is 4, and there are 8 processes; change"),
        ({"context": 5}, 10, "context 5 does not divide the 24 attention heads .* one of 1, 2, 3, 4, 6, 8, 12, 24"),
        ({"context": 4}, 6, "6 processes do not divide into context groups of 4"),
        ({}, 8, "on each of 8 processes, more than half of the 20.0 GB"),
    ],
)
def test_an_impossible_mesh_is_said_with_its_numbers(config, world, message):
    with pytest.raises(ValueError, match=message):
        resolve_degrees(ParallelConfig(**config), world, heads=24, per_node=8, parameters=PARAMETERS, memory=20 * 10**9)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shard": 0}, "shard has to be at least 1, not 0"),
        ({"offload": True, "checkpointing": "selective"}, "say `checkpointing: full`"),
        ({"reduce": "bfloat16"}, "set reduce to float32"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ParallelConfig(**config)


def test_checkpointing_of_no_block_is_refused():
    with pytest.raises(ValueError, match="checkpointing: none"):
        CheckpointedBlocks()
