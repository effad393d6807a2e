"""The start of a training of the video model: the mesh, the model on it, its first weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zoetrope.model.checkpoint import load_weights
from zoetrope.model.checkpoint.loading import WeightSource
from zoetrope.model.flops import mmdit_parameters
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.parallel.apply import apply_parallel, prepare_blocks
from zoetrope.model.parallel.degrees import Degrees, resolve_degrees
from zoetrope.model.parallel.mesh import make_mesh
from zoetrope.model.parallel.start import materialise, on_meta
from zoetrope.model.training.config import StageConfig
from zoetrope.model.training.process_group import ProcessGroup

NEW_IN_PARENT = ("cond_in.",)
"""A text-to-video parent has none; it starts at zero."""


@dataclass(frozen=True)
class Started:
    """A model that is ready to be trained.

    Attributes:
        model: on the devices of its processes.
        degrees: of the mesh.
        data_rank: which samples this process sees; processes that share a sequence see the same.
    """

    model: MMDiT
    degrees: Degrees
    data_rank: int


def mesh_degrees(stage: StageConfig, config: MMDiTConfig, workers: ProcessGroup) -> Degrees:
    """The mesh of a stage; see `parallel.degrees.resolve_degrees`.

    Raises:
        ValueError: the numbers do not fit the processes, the model's heads, or the device's memory.
    """
    memory = torch.cuda.get_device_properties(workers.device).total_memory if workers.device.type == "cuda" else None
    return resolve_degrees(
        stage.parallel,
        workers.world,
        heads=config.num_heads,
        per_node=workers.on_node[1],
        parameters=mmdit_parameters(config),
        memory=memory,
    )


def start_model(
    config: MMDiTConfig, stage: StageConfig, workers: ProcessGroup, source: Path | WeightSource | None = None
) -> Started:
    """Makes the model of a stage, parallel as the stage says.

    Sharded, it starts on the meta device and no process ever holds the whole of it.

    Args:
        config: architecture, with the stage's `cond_embed`.
        stage: seed of the first weights, precision, attention, what is parallel.
        workers: who takes part.
        source: weights to start from; None draws them from the seed.

    Raises:
        ValueError: the mesh does not fit, or the weights do not.
    """
    degrees = mesh_degrees(stage, config, workers)
    parallel = replace(stage.parallel, compute=stage.precision)
    if degrees.shard * degrees.context == 1:
        model = MMDiT(config).initialise(stage.seed)
        if source is not None:
            load_weights(model, source, may_miss=NEW_IN_PARENT)
        model.to(workers.device).choose_attention(stage.attention, getattr(torch, stage.precision))
        prepare_blocks(model, parallel)
        return Started(model, degrees, workers.rank)
    mesh = make_mesh(degrees, workers.device.type)
    model = on_meta(config)
    model.attention_name = stage.attention
    apply_parallel(model, mesh, parallel)
    if source is None:
        materialise(model, stage.seed, workers.device)
    else:
        load_weights(model, source, may_miss=NEW_IN_PARENT, device=workers.device)
    return Started(model, degrees, mesh.data_rank)
