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
from zoetrope.model.training.heartbeat import FINISHING, SAVING
from zoetrope.model.training.optimizer import adamw, learning_rate, optimizer_step
from zoetrope.model.training.process_group import ProcessGroup
from zoetrope.model.training.state import (
    Tensors,
    fill_optimizer,
    load_state,
    optimizer_tensors,
    save_state,
    warn_in_log,
)

Loss = Callable[[nn.Module, int], Tensor]
"""`loss(model, step)`: the loss of this worker's part of the batch of one step, through `model`."""


class MetricSink(Protocol):
    """Where metrics go; only the first worker has one that listens."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after `step` steps."""
        ...


class AuxiliaryTrainer(Protocol):
    """What learns beside the model, such as a discriminator; its state is kept and resumed with the model's."""

    def update(self, step: int) -> None:
        """Learns from what the loss of `step` (from 0) saw, after the model did; all workers call it."""
        ...

    def terms(self) -> Mapping[str, Tensor]:
        """Metrics of the last step on this worker, detached scalars; all workers have the same names."""
        ...

    def state(self) -> dict[str, Tensors]:
        """Its state: part -> tensors; not `model`, `optimizer` or `average`."""
        ...

    def restore(self, parts: Mapping[str, Tensors]) -> None:
        """Takes over what `state` gave, among parts of others."""
        ...


class CheckpointSync(Protocol):
    """Keeps states where they outlive the disk of their folder."""

    def pull(self, folder: Path) -> None:
        """Brings the newest state into the folder, if there is one."""
        ...

    def push(self, folder: Path) -> None:
        """Keeps the newest state of the folder."""
        ...


@dataclass(frozen=True)
class Resume:
    """Where a loop keeps its state.

    Attributes:
        folder: of the states, the same when the loop is started again; the workers of a node share it.
        digest: of everything that the result depends on (config, data, parent weights, code).
        sync: where nodes do not share the folder, or lose it.
        stop: asked before every step: whether to save the state and to stop; None for never.
        warn: is told of each state that is passed over because it is damaged.
    """

    folder: Path
    digest: str
    sync: CheckpointSync | None = None
    stop: Callable[[], bool] | None = None
    warn: Callable[[str], None] = warn_in_log


class StoppedError(RuntimeError):
    """Training was asked to stop; its state is saved."""


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


def train(
    model: nn.Module,
    loss: Loss,
    config: LoopConfig,
    optimizer_config: OptimizerConfig,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
    auxiliary: AuxiliaryTrainer | None = None,
) -> TrainingResult:
    """Trains `model` in place.

    Args:
        model: with its first weights, the same on all workers.
        loss: see `Loss`.
        config: steps, batch size, intervals.
        optimizer_config: AdamW, schedule, average.
        workers: who takes part.
        sink: gets `loss`, `gradient_norm`, `learning_rate`, `samples_per_second` and the auxiliary trainer's terms.
        resume: where to keep state; None for a loop that is not resumed.
        auxiliary: what learns beside the model.

    Raises:
        ValueError: the loss or the gradient is not finite.
        StoppedError: `resume.stop` said so on some worker.
    """
    loop = _Loop(model, config, optimizer_config, workers, sink, resume, auxiliary)
    loop.restore()
    while loop.step < config.steps:
        loop.stop_if_asked()
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

    terms: dict[str, list[Tensor]] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        config: LoopConfig,
        optimizer_config: OptimizerConfig,
        workers: ProcessGroup,
        sink: MetricSink,
        resume: Resume | None,
        auxiliary: AuxiliaryTrainer | None,
    ) -> None:
        self.model, self.config, self.optimizer_config = model, config, optimizer_config
        self.workers, self.sink, self.resume, self.auxiliary = workers, sink, resume, auxiliary
        self.step = self.resumed_at = 0
        self.final_loss = math.nan
        self.curve: dict[str, list[tuple[int, float]]] = {}
        self.window = _Window()
        self.optimizer = adamw(model.parameters(), optimizer_config)
        self.average = _averaged(model, optimizer_config.ema_decay)
        self.parallel: nn.Module = model
        if workers.world > 1:
            self.parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)

    def restore(self) -> None:
        """Takes over the newest state of a former attempt."""
        found = None if self.resume is None else self._found(self.resume)
        if found is None:
            return
        self.step, parts, notes = found
        self.resumed_at = self.step
        self.model.load_state_dict(parts["model"])
        fill_optimizer(self.optimizer, parts["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        if self.auxiliary is not None:
            self.auxiliary.restore(parts)
        self.final_loss = float(notes["final_loss"])
        self.curve = {
            name: [(int(at), float(value)) for at, value in points] for name, points in notes["curve"].items()
        }

        self.window.norms = [float(norm) for norm in notes.get("norms", [])]
        for key, values in parts.get("window", {}).items():
            rank, _, name = key.partition(".")
            if int(rank) == self.workers.rank:
                self.window.terms[name] = list(values.unbind())

    def _found(self, resume: Resume) -> tuple[int, dict[str, Tensors], dict[str, Any]] | None:
        """The newest state, the same on all workers."""
        if resume.sync is not None:
            if self.workers.on_node[0] == 0:
                resume.sync.pull(resume.folder)
            self.workers.wait()
        found = load_state(resume.folder, resume.digest, resume.warn)
        step = 0 if found is None else found[0]
        if self.workers.mean(torch.tensor(float(step))).item() != step:
            raise RuntimeError(f"the workers found different states, this one that of step {step}")
        return found

    def stop_if_asked(self) -> None:
        """Saves and stops where any worker was asked to."""
        if self.resume is None or self.resume.stop is None or not self.workers.any(self.resume.stop()):
            return
        self._save()
        self.workers.wait()
        raise StoppedError(f"stopped after step {self.step} of {self.config.steps}; the next attempt goes on there")

    def run_step(self, loss: Loss) -> None:
        rate = learning_rate(self.optimizer_config, self.step, self.config.steps)
        value = loss(self.parallel, self.step)
        norm = optimizer_step(self.optimizer, value, self.optimizer_config, self.step, rate, "training")
        if self.average is not None:
            self.average.update_parameters(self.model)
        terms = {"loss": value.detach()}
        if self.auxiliary is not None:
            self.auxiliary.update(self.step)
            terms |= self.auxiliary.terms()
        self.step += 1
        self.workers.heartbeat.step(self.step)
        for name, term in terms.items():
            self.window.terms.setdefault(name, []).append(term)
        self.window.norms.append(norm)
        if self.step % self.config.log_every == 0 or self.step == self.config.steps:
            self._report(rate)
        if self.resume is not None and self.config.save_every and self.step % self.config.save_every == 0:
            self._save()

    def _report(self, rate: float) -> None:
        window, self.window = self.window, _Window()
        means = self.workers.mean(torch.stack([torch.stack(values).mean() for values in window.terms.values()]))
        terms = dict(zip(window.terms, means.tolist(), strict=True))
        self.final_loss = terms["loss"]
        samples = self.config.batch_size * len(window.norms)
        values = {
            **terms,
            "gradient_norm": sum(window.norms) / len(window.norms),
            "learning_rate": rate,
            "samples_per_second": samples / (time.perf_counter() - window.started),
        }
        for name, value in values.items():
            self.curve.setdefault(name, []).append((self.step, value))
        if self.workers.first:
            self.sink.log(self.step, values)

    def _save(self) -> None:
        if self.resume is None or self.step >= self.config.steps:
            return
        self.workers.heartbeat.begin(SAVING)  # on all workers: those that do not save wait for the one that does
        window = self._window_of_all()
        if not self.workers.first or self.step == 0:
            return
        parts = {"model": dict(self.model.state_dict()), "optimizer": optimizer_tensors(self.optimizer)}
        if window:
            parts["window"] = window
        if self.average is not None:
            parts["average"] = dict(self.average.state_dict())
        if self.auxiliary is not None:
            parts |= self.auxiliary.state()
        notes: dict[str, Any] = {"final_loss": self.final_loss, "curve": self.curve, "norms": self.window.norms}
        save_state(self.resume.folder, self.step, self.resume.digest, parts, notes)
        if self.resume.sync is not None:
            self.resume.sync.push(self.resume.folder)

    def _window_of_all(self) -> Tensors:
        """What all workers have summed up since the last metrics, `RANK.NAME`: the next mean must not lose it."""
        terms = {name: torch.stack(values) for name, values in self.window.terms.items()}
        if not terms:
            return {}
        lengths = [len(values) for values in terms.values()]
        tensors = {}
        for rank, flat in enumerate(self.workers.gather(torch.cat(list(terms.values())))):
            for name, values in zip(terms, torch.split(flat, lengths), strict=True):
                tensors[f"{rank}.{name}"] = values.clone()
        return tensors

    def result(self) -> TrainingResult:
        self.workers.heartbeat.begin(FINISHING)
        source = self.model if self.average is None else self.average.module
        weights = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
        return TrainingResult(weights, self.final_loss, self.curve, self.resumed_at)
