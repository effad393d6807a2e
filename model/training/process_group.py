"""The processes of a training job: ranks, seeds and sample order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from zoetrope.model.training.heartbeat import Heartbeat


@dataclass(frozen=True)
class ProcessGroup:
    """Who takes part: this process is `rank` of `world`, and `local_rank` of `local_world` on its node.

    Without the latter two all processes are on one node. `heartbeat` tells whoever started the processes what this one
    is doing.
    """

    rank: int = 0
    world: int = 1
    local_rank: int | None = None
    local_world: int | None = None
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

    def any(self, flag: bool) -> bool:
        """Whether any worker says so; every worker has to call it."""
        return bool(self.mean(torch.tensor(float(flag))).item())

    def wait(self) -> None:
        """Returns when all workers have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_process_group(threads: int = 1) -> Iterator[ProcessGroup]:
    """Joins the group that torchrun set up (gloo) for the time of the block; a lone process is a group of one.

    Args:
        threads: PyTorch threads of this process; fixed, because the order of sums depends on it.
    """
    former = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        if not dist.is_torchelastic_launched():
            yield ProcessGroup()
            return
        local = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])  # of torchrun
        heartbeat = Heartbeat.start(local[0])  # first: a peer that never comes is a hang as well
        dist.init_process_group("gloo")
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), *local, heartbeat)
        dist.destroy_process_group()
    finally:
        torch.set_num_threads(former[0])
        torch.use_deterministic_algorithms(former[1])


def generator_for(seed: int, step: int, rank: int) -> torch.Generator:
    """Random numbers of one worker in one step: a resumed run draws what the first one would have drawn."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def batch_indices(count: int, batch_size: int, step: int, seed: int, workers: ProcessGroup) -> list[int]:
    """Samples of this worker in one step.

    Epochs are permutations of their own and follow each other without a gap; the global batch of a step does not
    depend on the number of workers, which take every world-th sample of it.

    Args:
        count: samples in the data set.
        batch_size: samples of the global batch.
        step: from 0.
        seed: of the order.
        workers: who asks.

    Raises:
        ValueError: fewer samples in a batch than workers.
    """
    if batch_size < workers.world or batch_size % workers.world:
        raise ValueError(f"batch_size {batch_size} does not divide among {workers.world} workers")
    positions = range(step * batch_size + workers.rank, (step + 1) * batch_size, workers.world)
    return [int(_permutation(count, seed, position // count)[position % count]) for position in positions]


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
