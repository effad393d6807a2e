"""Seconds that a save takes from the training: asynchronous against blocking, in turn on one machine.

    python bench/checkpoint_stall.py --hidden 512 --pairs 7

Trains an MMDiT of the 11B model's proportions on the CPU and saves weights, AdamW's moments and averages to a local
folder (with fsync). Blocking: until the checkpoint is complete. Asynchronous: until the training goes on; steps run
beside the writing until it has ended, as where the interval between saves is longer than one. The first save, which
makes the buffers, is printed apart. The bar is the ratio of the medians: under 20 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch

from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.training.checkpoints import Checkpoints, Identity, LocalCheckpointStore, TrainingState

BAR = 0.2


class Training:
    """Weights, moments and averages; a step is products of the weights' own sizes, as dear as a forward pass."""

    def __init__(self, hidden: int) -> None:
        config = MMDiTConfig(hidden_size=hidden, num_heads=hidden // 128, depth=2, depth_single_blocks=4)
        self.model = MMDiT(config).initialise(0)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), foreach=True)
        self.ema = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.x = torch.randn(256, hidden)
        for parameter in self.model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)
        self.step()

    @property
    def state(self) -> TrainingState:
        """What is saved."""
        return TrainingState(self.model, self.optimizer, self.ema, notes={"curve": {"loss": [[1, 0.5]] * 1000}})

    def step(self) -> float:
        """One step; returns its seconds."""
        started = time.perf_counter()
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.ndim == 2 and parameter.shape[1] == self.x.shape[1]:
                    self.x @ parameter.T
        self.optimizer.step()
        return time.perf_counter() - started


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the checkpoints go; a temporary folder by default")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a worker of a training job has
    training = Training(args.hidden)
    size = sum(tensor.numel() * tensor.element_size() for tensor in training.state.tensors().values())
    blocking, stalls, alone, beside, written = [], [], [], [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        checkpoints = Checkpoints(LocalCheckpointStore(Path(folder)), "bench", Identity({}))
        first = checkpoints.save(0, training.state)
        checkpoints.finish()
        for pair in range(args.pairs):
            started = time.perf_counter()
            checkpoints.save(2 * pair + 1, training.state)
            checkpoints.finish()
            blocking.append(time.perf_counter() - started)
            alone += [training.step() for _ in range(3)]
            stall, started = checkpoints.save(2 * pair + 2, training.state), time.perf_counter()
            while any(thread.name == "checkpoint" for thread in threading.enumerate()):
                beside.append(training.step())
            written.append(time.perf_counter() - started)
            started = time.perf_counter()
            checkpoints.finish()
            stalls.append(stall + time.perf_counter() - started)
        if checkpoints.failure is not None:
            raise SystemExit(checkpoints.failure)
    ratio = statistics.median(stalls) / statistics.median(blocking)
    ratios = sorted(stall / whole for stall, whole in zip(stalls, blocking, strict=True))
    slower = statistics.median(beside) / statistics.median(alone)
    print(
        f"{size / 1e6:.0f} MB, {args.pairs} pairs: blocking {statistics.median(blocking):.2f} s, asynchronous stalls "
        f"{statistics.median(stalls):.3f} s: {ratio:.1%} (pairs {ratios[0]:.1%} to {ratios[-1]:.1%}; bar {BAR:.0%}); "
        f"the first save stalled {first:.2f} s; beside the writing, which takes {statistics.median(written):.2f} s "
        f"then, a step takes {slower:.2f} times as long"
    )
    if ratio >= BAR:
        raise SystemExit(f"the stall is above {BAR:.0%}")


if __name__ == "__main__":
    main()
