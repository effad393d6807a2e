"""The training loop that all models share: AdamW, schedule, averaged weights, metrics, resumable state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoetrope.model.training.config import LoopConfig, OptimizerConfig
from zoetrope.model.training.state import fill_optimizer, load_state, optimizer_tensors, save_state
from zoetrope.model.training.workers import Workers

Loss = Callable[[nn.Module, int], Tensor]
"""`loss(model, step)`: the loss of this worker's part of the batch of one step, through `model`."""


class MetricSink(Protocol):
    """Where metrics go; only the first worker has one that listens."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after `step` steps."""
        ...


@dataclass(frozen=True)
class Resume:
    """Where a loop keeps its state.

    Attributes:
        folder: of the states, the same when the loop is started again.
        digest: of everything that the result depends on (config, data, parent weights, code).
    """

    folder: Path
    digest: str


@dataclass
class TrainingResult:
    """What a loop made.

    Attributes:
        weights: averaged weights (the last ones where nothing is averaged), by name.
        final_loss: mean loss over the last log interval.
        curve: metric -> [(step, value), ...].
        resumed_at: finished steps that were taken over from a former attempt.
    """

    weights: dict[str, Tensor]
    final_loss: float
    curve: dict[str, list[tuple[int, float]]]
    resumed_at: int = 0


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) in a loop of `steps`."""
    rate = config.learning_rate
    for start, dropped in sorted(config.drops.items()):
        if step >= start:
            rate = dropped
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.decay == "cosine":
        done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        rate *= config.final_ratio + (1 - config.final_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    return rate


def train(
    model: nn.Module,
    loss: Loss,
    config: LoopConfig,
    optimizer_config: OptimizerConfig,
    workers: Workers,
    sink: MetricSink,
    resume: Resume | None = None,
) -> TrainingResult:
    """Trains `model` in place.

    Args:
        model: with its first weights, the same on all workers.
        loss: see `Loss`.
        config: steps, batch size, intervals.
        optimizer_config: AdamW, schedule, average.
        workers: who takes part.
        sink: gets `loss`, `gradient_norm`, `learning_rate` and `samples_per_second`.
        resume: where to keep state; None for a loop that is not resumed.

    Raises:
        ValueError: the loss or the gradient is not finite.
    """
    loop = _Loop(model, config, optimizer_config, workers, sink, resume)
    loop.restore()
    while loop.step < config.steps:
        loop.run_step(loss)
    return loop.result()


def _averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=update)


@dataclass
class _Window:
    """Sums since the last metrics."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        config: LoopConfig,
        optimizer_config: OptimizerConfig,
        workers: Workers,
        sink: MetricSink,
        resume: Resume | None,
    ) -> None:
        self.model, self.config, self.optimizer_config = model, config, optimizer_config
        self.workers, self.sink, self.resume = workers, sink, resume
        self.step = self.resumed_at = 0
        self.final_loss = math.nan
        self.curve: dict[str, list[tuple[int, float]]] = {}
        self.window = _Window()
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=optimizer_config.learning_rate,
            betas=optimizer_config.betas,
            eps=optimizer_config.eps,
            weight_decay=optimizer_config.weight_decay,
            fused=True,
        )
        self.average = _averaged(model, optimizer_config.ema_decay)
        self.parallel: nn.Module = model
        if workers.world > 1:
            self.parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)

    def restore(self) -> None:
        """Takes over the newest state of a former attempt."""
        found = None if self.resume is None else load_state(self.resume.folder, self.resume.digest)
        if found is None:
            return
        self.step, parts, notes = found
        self.resumed_at = self.step
        self.model.load_state_dict(parts["model"])
        fill_optimizer(self.optimizer, parts["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        self.final_loss = float(notes["final_loss"])
        self.curve = {
            name: [(int(at), float(value)) for at, value in points] for name, points in notes["curve"].items()
        }

    def run_step(self, loss: Loss) -> None:
        rate = learning_rate(self.optimizer_config, self.step, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = loss(self.parallel, self.step)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.optimizer_config.clip_norm).item()
        if not math.isfinite(norm):  # the same on all workers, since gradients are means over them
            raise ValueError(
                f"training: the gradient is not finite in step {self.step + 1} (loss {value.item():.4g}, learning "
                f"rate {rate:.3g}); lower the learning rate or lengthen the warm-up"
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.window.losses.append(value.detach())
        self.window.norms.append(norm)
        if self.step % self.config.log_every == 0 or self.step == self.config.steps:
            self._report(rate)
        if self.resume is not None and self.config.save_every and self.step % self.config.save_every == 0:
            self._save()

    def _report(self, rate: float) -> None:
        window, self.window = self.window, _Window()
        self.final_loss = self.workers.mean(torch.stack(window.losses).mean()).item()
        samples = self.config.batch_size * len(window.losses)
        values = {
            "loss": self.final_loss,
            "gradient_norm": sum(window.norms) / len(window.norms),
            "learning_rate": rate,
            "samples_per_second": samples / (time.perf_counter() - window.started),
        }
        for name, value in values.items():
            self.curve.setdefault(name, []).append((self.step, value))
        if self.workers.first:
            self.sink.log(self.step, values)

    def _save(self) -> None:
        if self.resume is not None and self.workers.first and self.step < self.config.steps:
            parts = {"model": dict(self.model.state_dict()), "optimizer": optimizer_tensors(self.optimizer)}
            if self.average is not None:
                parts["average"] = dict(self.average.state_dict())
            notes: dict[str, Any] = {"final_loss": self.final_loss, "curve": self.curve}
            save_state(self.resume.folder, self.step, self.resume.digest, parts, notes)

    def result(self) -> TrainingResult:
        source = self.model if self.average is None else self.average.module
        weights = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
        return TrainingResult(weights, self.final_loss, self.curve, self.resumed_at)
