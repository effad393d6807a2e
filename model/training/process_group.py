"""The processes of a training job: ranks, seeds and sample order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.utils import deterministic as deterministic_memory

from zoetrope.model.training.heartbeat import Heartbeat

CPU = torch.device("cpu")


@dataclass(frozen=True)
class ProcessGroup:
    """Who takes part: this process is `rank` of `world`, and `local_rank` of `local_world` on its node.

    Without the latter two all processes are on one node. `device` is where this process computes. `heartbeat`
    tells whoever started the processes what this one is doing.
    """

    rank: int = 0
    world: int = 1
    local_rank: int | None = None
    local_world: int | None = None
    device: torch.device = CPU
    heartbeat: Heartbeat = field(default_factory=Heartbeat, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    @property
    def on_node(self) -> tuple[int, int]:
        """(rank, number) among the processes that share a disk with this one."""
        if self.local_rank is None or self.local_world is None:
            return self.rank, self.world
        return self.local_rank, self.local_world

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all workers; every worker has to call it."""
        if self.world == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.world

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all workers, of one shape, by rank; every worker has to call it."""
        if self.world == 1:
            return [value]
        gathered = [torch.empty_like(value) for _ in range(self.world)]
        dist.all_gather(gathered, value)
        return gathered

    def gather_objects(self, values: list[Any]) -> list[Any]:
        """The values of all workers, by rank; every worker has to call it."""
        if self.world == 1:
            return values
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, values)
        return [value for of_rank in gathered for value in of_rank]

    def any(self, flag: bool) -> bool:
        """Whether any worker says so; every worker has to call it."""
        return bool(self.mean(torch.tensor(float(flag))).item())

    def wait(self) -> None:
        """Returns when all workers have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_process_group(
    threads: int = 1, *, deterministic: bool = True, device: Literal["auto", "cpu", "cuda"] = "auto"
) -> Iterator[ProcessGroup]:
    """Joins the group that torchrun set up for the time of the block; a lone process is a group of one.

    On GPUs each process takes the one of its local rank and NCCL; gloo serves what lies in the host's memory.

    Args:
        threads: PyTorch threads of this process; fixed, because the order of sums depends on it.
        deterministic: only kernels that give the same bits each time; slower on GPUs.
        device: `auto` takes a GPU where PyTorch sees one.

    Raises:
        ValueError: there is no GPU for this process, though `cuda` was asked for or others of its node have one.
    """
    former = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = deterministic_memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    # else every new tensor is filled before it is written, which took a twentieth of a step; nothing here reads such
    deterministic_memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this alone
    torch.use_deterministic_algorithms(deterministic)
    try:
        if not dist.is_torchelastic_launched():
            yield ProcessGroup(device=_own_device(device, 0))
            return
        local = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])  # of torchrun
        heartbeat = Heartbeat.start(local[0])  # first: a peer that never comes is a hang as well
        own = _own_device(device, local[0])
        if own.type == "cuda":
            torch.cuda.set_device(own)
            dist.init_process_group("cpu:gloo,cuda:nccl", device_id=own)
        else:
            dist.init_process_group("gloo")
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), *local, own, heartbeat)
        dist.destroy_process_group()
    finally:
        torch.set_num_threads(former[0])
        torch.use_deterministic_algorithms(former[1])
        deterministic_memory.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def _own_device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= there:
        raise ValueError(
            f"process {local_rank} of this node has no GPU: PyTorch sees {there}; give the step as many GPUs as it has "
            "processes, or train on CPUs"
        )
    return torch.device("cuda", local_rank)


def generator_for(seed: int, *place: int) -> torch.Generator:
    """Random numbers of one place, such as (step, rank) or (epoch, sample), on the CPU.

    A resumed run draws what the first one would have drawn, and so does one that comes to the place by another way.
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def batch_indices(count: int, batch_size: int, step: int, seed: int, workers: ProcessGroup) -> list[int]:
    """The samples of `batch_places`, without their epochs."""
    return [index for _, index in batch_places(count, batch_size, step, seed, workers)]


def batch_places(count: int, batch_size: int, step: int, seed: int, workers: ProcessGroup) -> list[tuple[int, int]]:
    """Samples of this worker in one step.

    Epochs are permutations of their own and follow each other without a gap; the global batch of a step does not
    depend on the number of workers, which take every world-th sample of it.

    Args:
        count: samples in the data set.
        batch_size: samples of the global batch.
        step: from 0.
        seed: of the order.
        workers: who asks.

    Returns:
        (epoch, sample) of each.

    Raises:
        ValueError: fewer samples in a batch than workers.
    """
    if batch_size < workers.world or batch_size % workers.world:
        raise ValueError(f"batch_size {batch_size} does not divide among {workers.world} workers")
    positions = range(step * batch_size + workers.rank, (step + 1) * batch_size, workers.world)
    return [
        (position // count, int(_permutation(count, seed, position // count)[position % count]))
        for position in positions
    ]


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
