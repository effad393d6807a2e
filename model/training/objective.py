"""What a training loop is given: what to make small, what learns beside it, where its metrics go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class MetricSink(Protocol):
    """Where metrics go; only the first worker has one that listens."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after `step` steps."""
        ...


class Objective(Protocol):
    """What is made small."""

    @property
    def precision(self) -> str:
        """Of the matrix products, `float32` or `bfloat16`."""
        ...

    @property
    def data_world(self) -> int:
        """Number of processes that see different samples; the others see the same as one of them."""
        ...

    def prepare(self, position: int, avoided: frozenset[str]) -> Any:
        """What this process contributes to a step: content read, randomness drawn, in the host's memory.

        Called ahead, in another thread. Depends on its arguments alone.

        Args:
            position: of the step in the order of samples, from 0.
            avoided: names of samples that others have to stand in for.
        """
        ...

    def losses(self, model: nn.Module, prepared: Any, step: int) -> Sequence[Callable[[], Tensor]]:
        """The loss of each pack through `model`, to be called and followed by its backward pass one after the other.

        The mean over the processes of their sums is the loss of the step. All processes have as many.
        """
        ...

    def samples(self, prepared: Any) -> tuple[Sequence[str], Tensor | None]:
        """Names of the samples of this process, and their losses [n] once they are known, detached."""
        ...

    def work(self, prepared: Any) -> tuple[int, float]:
        """Tokens of this process without padding, and FLOPs of the model for them; 0 where they are not counted."""
        ...

    def report(self) -> Mapping[str, float]:
        """Further metrics since the last report; all processes call it."""
        ...


class AuxiliaryTrainer(Protocol):
    """What learns beside the model, such as a discriminator; its state is kept and resumed with the model's."""

    def update(self, step: int) -> None:
        """Learns from what the loss of `step` (from 0) saw, after the model did; all workers call it."""
        ...

    def terms(self) -> Mapping[str, Tensor]:
        """Metrics of the last step on this worker, detached scalars; all workers have the same names."""
        ...

    def check(self) -> None:
        """Looks at its steps since the last metrics; raises ValueError where it no longer learns."""
        ...

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Its live tensors: part -> name -> tensor, the same names before the first step as after it.

        A resumed training fills them in place.
        """
        ...
