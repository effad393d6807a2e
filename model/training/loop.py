"""The training loop that all models share: steps, guards, checkpoints, metrics; resumable bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoetrope.model.data.prefetch import Prefetcher
from zoetrope.model.training.checkpoints import (
    Checkpoints,
    CheckpointStore,
    Identity,
    Retention,
    TrainingState,
)
from zoetrope.model.training.checkpoints.checkpoints import warn_in_log
from zoetrope.model.training.config import LoopConfig, OptimizerConfig
from zoetrope.model.training.engine import Engine
from zoetrope.model.training.guards import DivergedError, Findings, GoBack, StepGuard
from zoetrope.model.training.heartbeat import FINISHING, SAVING
from zoetrope.model.training.objective import AuxiliaryTrainer, MetricSink, Objective
from zoetrope.model.training.optimizer import learning_rate
from zoetrope.model.training.process_group import ProcessGroup
from zoetrope.model.training.throughput import Throughput, peak_flops


@dataclass(frozen=True)
class Resume:
    """Where a loop keeps its checkpoints.

    Attributes:
        store: where to.
        identity: of the training, see `checkpoints.Identity`.
        key: folder in the store, the same for every attempt.
        retention: which stay.
        stop: asked before every step: whether to save and to stop; None for never.
        warn: told of what is passed over, could not be written or was skipped.
    """

    store: CheckpointStore
    identity: Identity
    key: str = "checkpoints"
    retention: Retention = field(default_factory=Retention)
    stop: Callable[[], bool] | None = None
    warn: Callable[[str], None] = warn_in_log


class StoppedError(RuntimeError):
    """Training was asked to stop; its state is saved."""


@dataclass
class TrainingResult:
    """What a loop made.

    Attributes:
        weights: averaged weights (the last ones where nothing is averaged), by name, sharded as the model is
            (`checkpoint.export_weights` writes them).
        final_loss: mean loss over the last log interval.
        curve: metric -> [(step, value), ...].
        resumed_at: finished steps that were taken over from a former attempt.
        skipped: steps that guards kept from the optimizer.
    """

    weights: dict[str, Tensor]
    final_loss: float
    curve: dict[str, list[tuple[int, float]]]
    resumed_at: int = 0
    skipped: int = 0


def train(
    model: nn.Module,
    objective: Objective,
    config: LoopConfig,
    optimizer_config: OptimizerConfig,
    workers: ProcessGroup,
    sink: MetricSink,
    resume: Resume | None = None,
    auxiliary: AuxiliaryTrainer | None = None,
) -> TrainingResult:
    """Trains `model` in place.

    Args:
        model: with its first weights, the same on all workers, on their devices; sharded or not.
        objective: what is made small.
        config: steps, batch size, intervals, guards.
        optimizer_config: AdamW, schedule, average.
        workers: who takes part.
        sink: gets the metrics: `loss`, `gradient_norm`, `learning_rate`, those of `Throughput`, of the objective and
            of the auxiliary trainer.
        resume: where to keep checkpoints; None for a loop that is not resumed.
        auxiliary: what learns beside the model.

    Raises:
        DivergedError: too many steps had to be skipped.
        ValueError: the auxiliary trainer no longer learns.
        StoppedError: `resume.stop` said so on some worker.
        StoreError: the checkpoints cannot be read.
    """
    loop = _Loop(model, objective, config, optimizer_config, workers, sink, resume, auxiliary)
    loop.restore()
    try:
        while loop.step < config.steps:
            loop.stop_if_asked()
            loop.run_step()
        return loop.result()
    finally:
        loop.end()


@dataclass
class _Window:
    """What the steps since the last metrics gave, on this worker."""

    terms: dict[str, list[Tensor]] = field(default_factory=dict)
    work: list[float] = field(default_factory=lambda: [0.0, 0.0])  # tokens, FLOPs

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, term in terms.items():
            self.terms.setdefault(name, []).append(term)

    def state(self) -> dict[str, Any]:
        terms = {name: torch.stack(values).tolist() for name, values in self.terms.items()}
        return {"terms": terms, "work": self.work}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> _Window:
        terms = {name: list(torch.tensor(values, device=device).unbind()) for name, values in state["terms"].items()}
        return cls(terms, [float(each) for each in state["work"]])


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        config: LoopConfig,
        optimizer_config: OptimizerConfig,
        workers: ProcessGroup,
        sink: MetricSink,
        resume: Resume | None,
        auxiliary: AuxiliaryTrainer | None,
    ) -> None:
        self.objective, self.config, self.optimizer_config = objective, config, optimizer_config
        self.workers, self.sink, self.resume, self.auxiliary = workers, sink, resume, auxiliary
        self.engine = Engine(model, optimizer_config, workers)
        self.guard = StepGuard(config.guards, workers.device)
        self.throughput = Throughput(config.steps, workers.world, _peak(workers.device, objective.precision))
        self.checkpoints = None
        if resume is not None:
            self.checkpoints = Checkpoints(resume.store, resume.key, resume.identity, resume.retention, resume.warn)
        self.warn = resume.warn if resume is not None and workers.first else _silent
        self.step = self.resumed_at = 0
        self.final_loss = math.nan
        self.curve: dict[str, list[tuple[int, float]]] = {}
        self.window = _Window()
        self.ahead: Prefetcher[Any] | None = None

    def restore(self) -> None:
        """Takes over the newest checkpoint of a former attempt."""
        notes = self._load()
        if notes is None:
            return
        self.resumed_at = self.step
        self.guard.restore(notes["guard"])
        self.throughput.restore(notes["throughput"])

    def _load(self, at_most: int | None = None) -> Mapping[str, Any] | None:
        """Loads a checkpoint; its notes, or None where there is none."""
        if self.checkpoints is None:
            return None
        state = self._state({})
        found = self.checkpoints.load_newest(state, at_most)
        if found is None:
            return None
        self.step = found
        notes = state.notes
        if self.engine.average is not None:
            self.engine.average.updates = int(notes["averaged"])
        self.final_loss = float(notes["final_loss"])
        self.curve = {
            name: [(int(at), float(value)) for at, value in points] for name, points in notes["curve"].items()
        }
        self.window = _Window() if state.own is None else _Window.of(state.own, self.workers.device)
        return notes

    def stop_if_asked(self) -> None:
        """Saves and stops where any worker was asked to."""
        if self.resume is None or self.resume.stop is None or not self.workers.any(self.resume.stop()):
            return
        self._save()
        if self.checkpoints is not None:
            self.checkpoints.finish()
        self.workers.wait()
        raise StoppedError(f"stopped after step {self.step} of {self.config.steps}; the next attempt goes on there")

    def run_step(self) -> None:
        rate = learning_rate(self.optimizer_config, self.step, self.config.steps)
        with self.throughput.waiting("data"):
            prepared = self._prepared()
        value = self.engine.backward(self.objective.losses(self.engine.model, prepared, self.step))
        norm = self.engine.clip()
        names, losses = self.objective.samples(prepared)
        skip = self.guard.check(self.step, norm, samples=names, losses=losses)
        self.engine.update(rate, skip)
        terms = {"loss": value, "gradient_norm": norm}
        if self.auxiliary is not None:
            self.auxiliary.update(self.step)
            terms |= self.auxiliary.terms()
        self.window.add(terms)
        self.window.work = [sum(pair) for pair in zip(self.window.work, self.objective.work(prepared), strict=True)]
        self.throughput.step(self.config.batch_size)
        self.step += 1
        self.workers.heartbeat.step(self.step)
        saves = self.checkpoints is not None and self.config.save_every and self.step % self.config.save_every == 0
        if self.step % self.config.log_every == 0 or self.step == self.config.steps:
            self._report(rate)
        elif saves:
            self._look()
        if saves:
            self._save()

    def _prepared(self) -> Any:
        """What this worker contributes to the step, prepared in the background."""
        if self.ahead is None:
            self.ahead = Prefetcher(self._prepare, self.config.prefetch, stop=self.config.steps)
        return self.ahead.get(self.step)

    def _prepare(self, step: int) -> Any:
        return self.objective.prepare(self.guard.position(step), self.guard.quarantined(step))

    def _look(self) -> None:
        """Reads what the guard has decided, and acts on it."""
        findings: Findings = self.guard.poll(self.config.prefetch, gather=self.workers.gather_objects)
        for each in findings.skipped:
            self.warn(f"step {each.step + 1} was skipped: {each.why}; its samples: {', '.join(each.suspects)}")
        for name in findings.quarantined:
            self.warn(f"sample {name} is left out from now on: it was in {self.config.guards.repeats} skipped steps")
        if findings.go_back is not None:
            self._go_back(findings.go_back)

    def _go_back(self, signal: GoBack) -> None:
        if self.ahead is not None:
            self.ahead.close()
            self.ahead = None
        notes = self._load(signal.before)
        if notes is None or self.checkpoints is None:
            raise DivergedError(
                f"training diverged: {self.guard.total} steps were skipped up to step {signal.at}, and there is no "
                f"checkpoint from before step {signal.before + 1} to go back to; lower the learning rate, lengthen the "
                "warm-up, or save more often"
            )
        self.guard.went_back(signal, self.step, notes["guard"])
        self.checkpoints.discard_after(self.step)
        self.warn(f"training goes back to step {self.step} and on behind the samples up to step {signal.at}")
        self._save()

    def _report(self, rate: float) -> None:
        window, self.window = self.window, _Window()
        names = list(window.terms)
        own = torch.stack([torch.stack(window.terms[name]).float().nanmean() for name in names])
        terms = dict(zip(names, self.workers.mean(own).tolist(), strict=True))
        work = self.workers.mean(torch.tensor(window.work, dtype=torch.float64)).tolist()
        self.throughput.work(*(each * self.objective.data_world for each in work))
        self.final_loss = terms["loss"]
        values = {**terms, "learning_rate": rate, **self.throughput.report(self.step)}
        values |= self.objective.report()
        values |= {"skipped_steps": float(self.guard.total)} if self.guard.total else {}
        for name, value in values.items():
            self.curve.setdefault(name, []).append((self.step, value))
        if self.workers.first:
            self.sink.log(self.step, values)
        self._look()
        if self.auxiliary is not None:
            self.auxiliary.check()

    def _save(self) -> None:
        if self.checkpoints is None or self.step >= self.config.steps or self.step == 0:
            return
        self.workers.heartbeat.begin(SAVING)
        if self.guard.pending:
            self._look()
        notes = {
            "final_loss": self.final_loss,
            "curve": self.curve,
            "guard": self.guard.state(),
            "throughput": self.throughput.state(),
            "averaged": 0 if self.engine.average is None else self.engine.average.updates,
        }
        with self.throughput.waiting("checkpoint"):
            self.checkpoints.save(self.step, self._state(notes))

    def _state(self, notes: Mapping[str, Any]) -> TrainingState:
        average = self.engine.average
        return TrainingState(
            self.engine.model,
            self.engine.optimizer,
            None if average is None else average.weights,
            {} if self.auxiliary is None else self.auxiliary.state(),
            notes,
            self.window.state(),
        )

    def result(self) -> TrainingResult:
        self.workers.heartbeat.begin(FINISHING)
        return TrainingResult(self.engine.weights(), self.final_loss, self.curve, self.resumed_at, self.guard.total)

    def end(self) -> None:
        """Ends what runs in the background."""
        if self.ahead is not None:
            self.ahead.close()
        if self.checkpoints is not None:
            self.checkpoints.finish()


def _peak(device: torch.device, precision: str) -> float | None:
    return peak_flops(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None


def _silent(message: str) -> None:
    """The first worker says the same."""
