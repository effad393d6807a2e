"""Guards of training: a broken step teaches nothing, a broken clip is taken out, a broken stretch is left behind.

What decides stays on the device: the optimizer gets a tensor that says whether to step (`found_inf`, which PyTorch's
fused AdamW takes for gradient scalers), so a step waits for no number. The host learns of it when it logs.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoetrope.model.training.config import GuardConfig

SampleLosses = list[tuple[str, float]]
"""(sample, loss): what one rank, or all of them, saw in one step."""


class DivergedError(ValueError):
    """Steps had to be skipped again and again, also behind the samples where it had begun."""


@dataclass(frozen=True)
class Skipped:
    """A step that the optimizer did not take.

    Attributes:
        step: from 0.
        norm: of its gradient; may be no number.
        why: for a person.
        suspects: its samples that stand out, or all of them where none does.
    """

    step: int
    norm: float
    why: str
    suspects: tuple[str, ...]


@dataclass(frozen=True)
class GoBack:
    """Training has to go back, and on behind the samples that it had then seen.

    Attributes:
        before: a state of at most so many finished steps has to be loaded.
        at: finished steps now; the samples up to here are left out.
    """

    before: int
    at: int


@dataclass(frozen=True)
class Findings:
    """What happened since the last look.

    Attributes:
        skipped: steps, in order.
        quarantined: samples that are replaced from now on, sorted.
        go_back: whether training has to go back.
    """

    skipped: tuple[Skipped, ...] = ()
    quarantined: tuple[str, ...] = ()
    go_back: GoBack | None = None


def replacement(row: int, quarantined: Container[int], rows_of_bucket: Sequence[int]) -> int:
    """The sample that stands in for one: itself, or the next one of its bucket that is not quarantined.

    Args:
        row: of the sample in the index.
        quarantined: rows.
        rows_of_bucket: all rows of its bucket, in rising order (a range will do).

    Raises:
        ValueError: the row is not of the bucket, or nothing is left of the bucket.
    """
    start = bisect.bisect_left(rows_of_bucket, row)
    if start == len(rows_of_bucket) or rows_of_bucket[start] != row:
        raise ValueError(f"row {row} is not of the bucket")
    for step in range(len(rows_of_bucket)):
        found = rows_of_bucket[(start + step) % len(rows_of_bucket)]
        if found not in quarantined:
            return found
    raise ValueError(f"all {len(rows_of_bucket)} samples of the bucket are quarantined")


def guarded_step(optimizer: torch.optim.Optimizer, skip: Tensor) -> None:
    """One step of the optimizer, or none: weights and state stay as they are, bit by bit, where `skip` is 1.

    Args:
        optimizer: a fused one.
        skip: of `StepGuard.check`, [] float32 on the device of the weights.

    Raises:
        ValueError: the optimizer does not take the tensor, and would step in any case.
    """
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(f"{type(optimizer).__name__} has no fused step here, which guards need: say fused=True")
    optimizer.grad_scale, optimizer.found_inf = None, skip  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


@dataclass
class _Pending:
    """What is known of a step before the host has looked."""

    step: int
    values: Tensor  # [skip, norm, median], on the device
    samples: Sequence[str]
    losses: Tensor | None


@dataclass
class StepGuard:
    """Judges steps. All ranks have to give the same numbers to `check`, and then decide alike without a word.

    Attributes:
        config: when.
        device: of the model.
    """

    config: GuardConfig
    device: torch.device
    _norms: Tensor = field(init=False)
    _count: Tensor = field(init=False)
    _slots: Tensor = field(init=False)
    _pending: list[_Pending] = field(default_factory=list)
    _recent: list[int] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _quarantined: dict[str, int] = field(default_factory=dict)
    _shifts: list[tuple[int, int]] = field(default_factory=list)
    total: int = 0

    def __post_init__(self) -> None:
        """Begins without a history."""
        self._slots = torch.arange(self.config.history, device=self.device)
        self._remember([])

    def check(
        self, step: int, norm: Tensor, loss: Tensor | None = None, samples: Sequence[str] = (), losses: Any = None
    ) -> Tensor:
        """Whether to skip a step: [] float32 on the device, 1 or 0, for `guarded_step`. Waits for nothing.

        Args:
            step: from 0.
            norm: [] of the whole gradient before clipping, the same on all ranks.
            loss: [] mean over all ranks, where it is known; a rank's own would let ranks decide differently.
            samples: names of this rank's samples, or none.
            losses: [len(samples)] their losses, detached; or None.
        """
        norm = norm.detach().to(self.device, torch.float32)
        finite = torch.isfinite(norm)
        if loss is not None:
            finite = finite & torch.isfinite(loss.detach().to(self.device))
        known = self._count.clamp(max=self.config.history)
        median = torch.sort(self._norms).values.gather(0, ((known - 1) // 2).clamp(min=0).view(1)).view(())
        skip = ~finite
        if self.config.spike:
            skip = skip | ((self._count >= self.config.warm) & (norm > self.config.spike * median))
        here = self._slots == self._count % self.config.history
        self._norms = torch.where(here & ~skip, norm, self._norms)
        self._count = self._count + (~skip).long()
        values = torch.stack([skip.float(), norm, median])
        kept = None if losses is None else losses.detach().clone()
        self._pending.append(_Pending(step, values, tuple(samples), kept))
        return values[0]

    def poll(
        self,
        ahead: int = 0,
        samples_of: Callable[[int], Sequence[str]] | None = None,
        gather: Callable[[SampleLosses], SampleLosses] = list,
    ) -> Findings:
        """Looks at the steps since the last time; reads from the device, so it belongs where metrics are logged.

        Args:
            ahead: steps whose samples are being prepared already: a quarantine begins behind them.
            samples_of: step -> names of all its samples on all ranks, for steps of which no losses are known.
            gather: puts together what all ranks saw in a step; called on all ranks alike, for skipped steps alone.

        Raises:
            DivergedError: training had gone back before, and would have to go back again.
        """
        if not self._pending:
            return Findings()
        pending, self._pending = self._pending, []
        values = torch.stack([each.values for each in pending]).tolist()
        skipped = []
        for each, (skip, norm, median) in zip(pending, values, strict=True):
            if skip:
                suspects = self._suspects(each, samples_of, gather)
                why = "is not finite" if not math.isfinite(norm) else f"is {norm / median:.0f} times the median"
                if math.isfinite(norm) and (not self.config.spike or norm <= self.config.spike * median):
                    why = "is finite, the loss is not"
                skipped.append(Skipped(each.step, norm, f"the gradient norm {norm:.3g} {why}", suspects))
        if not skipped:
            return Findings()
        self.total += len(skipped)
        last = pending[-1].step
        quarantined = self._quarantine(skipped, last + 1 + ahead)
        self._recent = [
            at for at in (*self._recent, *(each.step for each in skipped)) if at > last - self.config.window
        ]
        if len(self._recent) < self.config.skips:
            return Findings(tuple(skipped), quarantined)
        if self._shifts:
            at, shift = self._shifts[-1]
            raise DivergedError(
                f"training diverged: {len(self._recent)} of the last {self.config.window} steps were skipped, the last "
                f"one (step {skipped[-1].step + 1}) because {skipped[-1].why}; it had gone back once before, from step "
                f"{at + shift} to step {at}. Lower the learning rate or lengthen the warm-up"
            )
        return Findings(tuple(skipped), quarantined, GoBack(self._recent[0], last + 1))

    @property
    def pending(self) -> bool:
        """Whether steps were checked that nobody has looked at."""
        return bool(self._pending)

    def went_back(self, signal: GoBack, to: int, saved: Mapping[str, Any] | None = None) -> None:
        """Training has loaded the state after `to` finished steps: its samples go on behind those seen so far.

        The states behind it belong to what was left: the loop removes them, and saves this one anew.

        Args:
            signal: of `poll`.
            to: finished steps of the state.
            saved: what `state` gave when it was saved; its norms are those before the fault.

        Raises:
            ValueError: the state is not from before the fault.
        """
        if to > signal.before:
            raise ValueError(f"the state after step {to} is not from before step {signal.before + 1}")
        self._shifts.append((to, signal.at - to))
        self._recent, self._pending = [], []
        if saved is not None:
            self._remember(saved["norms"])

    def position(self, step: int) -> int:
        """The place of a step in the order of samples: the step itself, until training has gone back once."""
        return step + sum(shift for start, shift in self._shifts if step >= start)

    def quarantined(self, step: int) -> frozenset[str]:
        """The samples that others stand in for in a step."""
        return frozenset(name for name, start in self._quarantined.items() if step >= start)

    def state(self) -> dict[str, Any]:
        """All of it as JSON, for the checkpoint.

        Raises:
            RuntimeError: steps were checked that nobody has looked at.
        """
        if self._pending:
            raise RuntimeError("poll the guard before its state is saved")
        count = int(self._count.item())
        norms = self._norms.tolist()
        first = count % self.config.history if count > self.config.history else 0
        ordered = (norms[first:] + norms[:first])[: min(count, self.config.history)]
        return {
            "norms": ordered,
            "recent": list(self._recent),
            "seen": dict(sorted(self._seen.items())),
            "quarantined": dict(sorted(self._quarantined.items())),
            "shifts": [list(each) for each in self._shifts],
            "total": self.total,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave, also through JSON."""
        self._remember(state["norms"])
        self._pending, self._recent = [], [int(at) for at in state["recent"]]
        self._seen = {name: int(count) for name, count in state["seen"].items()}
        self._quarantined = {name: int(start) for name, start in state["quarantined"].items()}
        self._shifts = [(int(start), int(shift)) for start, shift in state["shifts"]]
        self.total = int(state["total"])

    def _remember(self, norms: Sequence[float]) -> None:
        kept = [float(norm) for norm in norms][-self.config.history :]
        padded = kept + [math.inf] * (self.config.history - len(kept))
        self._norms = torch.tensor(padded, dtype=torch.float32, device=self.device)
        self._count = torch.tensor(len(kept), device=self.device)

    def _suspects(
        self,
        each: _Pending,
        samples_of: Callable[[int], Sequence[str]] | None,
        gather: Callable[[SampleLosses], SampleLosses],
    ) -> tuple[str, ...]:
        losses = [] if each.losses is None else each.losses.tolist()
        seen = gather(list(zip(each.samples, losses, strict=False)))
        broken = [name for name, loss in seen if not math.isfinite(loss)]
        if not broken and seen and self.config.spike:
            usual = sorted(loss for _, loss in seen)[(len(seen) - 1) // 2]
            broken = [name for name, loss in seen if loss > self.config.spike * usual]
        if broken:
            return tuple(sorted(set(broken)))
        everything = [name for name, _ in seen] or (samples_of(each.step) if samples_of is not None else each.samples)
        return tuple(sorted(set(everything)))

    def _quarantine(self, skipped: Sequence[Skipped], start: int) -> tuple[str, ...]:
        found = []
        for each in skipped:
            for name in each.suspects:
                self._seen[name] = self._seen.get(name, 0) + 1
                if self._seen[name] >= self.config.repeats and name not in self._quarantined:
                    self._quarantined[name] = start
                    found.append(name)
        return tuple(sorted(found))
