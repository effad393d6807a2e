"""The device mesh: who shares weights with whom, who shares sequences, who sees which samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from zoetrope.model.parallel.degrees import Degrees


@dataclass(frozen=True)
class ParallelMesh:
    """The processes as a mesh.

    Attributes:
        degrees: lengths of its axes.
        weights: what the weights are sharded over: (shard x context), or (replicate, shard x context) for HSDP.
            Processes of a context group share weights too, which costs nothing and saves memory.
        data: the data-parallel ranks, (replicate x shard).
        context: the processes that share a sequence.
    """

    degrees: Degrees
    weights: DeviceMesh
    data: DeviceMesh
    context: DeviceMesh

    @property
    def data_rank(self) -> int:
        """Which samples this process sees: ranks of a context group see the same."""
        return self.data.get_local_rank()

    @property
    def data_world(self) -> int:
        """Number of data-parallel ranks."""
        return self.degrees.data


def make_mesh(degrees: Degrees, device_type: str = "cpu") -> ParallelMesh:
    """Builds the mesh; all processes of the default process group have to call it.

    Args:
        degrees: of `resolve_degrees`.
        device_type: `cpu` (gloo) or `cuda` (NCCL).

    Raises:
        ValueError: there is no process group, or it is of another size. A lone process joins a group of one.
    """
    if not dist.is_initialized():
        raise ValueError("a mesh needs a process group; call torch.distributed.init_process_group first")
    if dist.get_world_size() != degrees.world:
        raise ValueError(f"{degrees} is a mesh of {degrees.world} processes, and there are {dist.get_world_size()}")
    sharing = degrees.shard * degrees.context
    if degrees.replicate > 1:
        weights = init_device_mesh(device_type, (degrees.replicate, sharing), mesh_dim_names=("replicate", "shard"))
    else:
        weights = init_device_mesh(device_type, (sharing,), mesh_dim_names=("shard",))
    sequences = init_device_mesh(device_type, (degrees.data, degrees.context), mesh_dim_names=("data", "context"))
    return ParallelMesh(degrees, weights, sequences["data"], sequences["context"])
