"""Makes a model parallel: sequence, checkpointing, compilation, sharding, in this order."""

from __future__ import annotations

from functools import partial

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.parallel.checkpointing import checkpoint_blocks
from zoetrope.model.parallel.config import CheckpointedBlocks, ParallelConfig
from zoetrope.model.parallel.context import UlyssesLayout
from zoetrope.model.parallel.mesh import ParallelMesh


def apply_parallel(model: MMDiT, mesh: ParallelMesh, config: ParallelConfig) -> MMDiT:
    """Makes a model train on a mesh as one process would; in place.

    Called as before, with whole samples (the same on all ranks of a context group), and returns whole predictions in
    float32. The loss of a rank is that of its own samples: gradients are means over the data-parallel ranks. Without
    autocast: weights are gathered in `config.compute`. `cond` has to be given on all ranks or on none,
    since all have to send gradients of the same weights.

    Args:
        model: float32, on the meta device: its weights come afterwards, by `start.materialise` or
            `checkpoint.load_weights`. A model with weights is taken too; it is sharded in place.
        mesh: of `make_mesh`.
        config: what else to do.

    Returns:
        The model.

    Raises:
        ValueError: the mesh, the model or the device cannot do what the configuration asks for.
    """
    _require_fit(model, mesh, config)
    model.choose_attention(model.attention_name, getattr(torch, config.compute), mesh.weights.device_type)
    if mesh.degrees.context > 1:
        model.share_sequence(partial(UlyssesLayout, group=mesh.context.get_group()))
    prepare_blocks(model, config)
    _shard(model, mesh, config)
    return model


def prepare_blocks(model: MMDiT, config: ParallelConfig) -> None:
    """What a model needs on one process too: checkpointing of its blocks, then their compilation; in place."""
    checkpoint_blocks(model, config)
    if config.compile:
        for block in [*model.double_blocks, *model.single_blocks]:
            block.compile()


def _require_fit(model: MMDiT, mesh: ParallelMesh, config: ParallelConfig) -> None:
    shape = model.config
    if config.context != mesh.degrees.context:
        raise ValueError(f"the mesh has context {mesh.degrees.context}, the configuration {config.context}")
    if shape.num_heads % config.context:
        raise ValueError(f"context {config.context} does not divide the {shape.num_heads} attention heads of the model")
    kept = config.checkpointing
    if isinstance(kept, CheckpointedBlocks) and (kept.double > shape.depth or kept.single > shape.depth_single_blocks):
        raise ValueError(
            f"checkpointing of {kept.double} double and {kept.single} single blocks: the model has {shape.depth} and "
            f"{shape.depth_single_blocks}"
        )
    if config.offload and mesh.weights.device_type == "cpu":
        raise ValueError("offload moves activations from a GPU to the host; on the CPU set it to false")
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise ValueError("training needs the weights in float32; `compute: bfloat16` rounds what is gathered")


def _shard(model: MMDiT, mesh: ParallelMesh, config: ParallelConfig) -> None:
    """Shards each block, then the rest; what is gathered first in the backward pass is not freed before it."""
    half = config.compute == "bfloat16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=getattr(torch, config.reduce) if half else None,
        cast_forward_inputs=False,  # times and rotations stay in float32; the model casts what its layers take
    )
    blocks = [*model.double_blocks, *model.single_blocks]
    for block in blocks:
        free = config.reshard == "always" and block is not blocks[-1]
        fully_shard(block, mesh=mesh.weights, mp_policy=policy, reshard_after_forward=free)
    # its output is a view of a matrix product, and writing into a view would pass FSDP's hook by
    model.register_forward_hook(lambda _module, _inputs, out: out.clone())
    whole = MixedPrecisionPolicy(policy.param_dtype, policy.reduce_dtype, torch.float32, cast_forward_inputs=False)
    fully_shard(model, mesh=mesh.weights, mp_policy=whole, reshard_after_forward=False)
