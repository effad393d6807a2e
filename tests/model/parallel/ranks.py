"""Runs a function in several gloo ranks, forked from one server that has PyTorch loaded already."""

import multiprocessing
import os
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.model.parallel.cases"])
SECONDS = 180


def run_ranks(function, world, folder, *arguments):
    """Calls `function(rank, world, *arguments)` in `world` ranks and returns what each returned, by rank.

    A rank that fails ends the others, and its traceback is the error.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes = [SERVER.Process(target=_rank, args=(function, rank, world, folder, arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    failures = [path.read_text() for path in sorted(folder.glob("failure-*"))]
    for process in processes:
        process.kill()
        process.join()
    assert not failures, "\n".join(failures)
    return [torch.load(folder / f"result-{rank}", weights_only=True) for rank in range(world)]


def _rank(function, rank, world, folder, arguments):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=world)
        torch.save(function(rank, world, *arguments), folder / f"result-{rank}")
        dist.destroy_process_group()
    except BaseException:  # noqa: BLE001 - written down for the test, which shows it
        (folder / f"failure-{rank}").write_text(traceback.format_exc())
        os._exit(1)  # the other ranks wait for this one, and their connections break now
