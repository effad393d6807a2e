"""Which checkpoints stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from zoetrope.model.training.checkpoints.format import Place


@dataclass(frozen=True)
class Retention:
    """What is kept beside the newest complete one, which always is.

    Attributes:
        last: that many of the newest: if one is damaged, the one before it is taken.
        every: those whose step is a multiple of it, for ever; 0 for none.
        best: that many of the lowest validation loss.

    Raises:
        ValueError: `last` below 1, or others below 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    last: int = 2
    every: int = 0
    best: int = 0

    def __post_init__(self) -> None:
        """Checks."""
        if self.last < 1:
            raise ValueError(f"retention.last: {self.last} keeps no checkpoint to continue from; at least 1")
        for name in ("every", "best"):
            if getattr(self, name) < 0:
                raise ValueError(f"retention.{name}: {getattr(self, name)} is below 0; 0 keeps none")

    def kept(self, complete: Mapping[Place, float | None]) -> set[Place]:
        """Those that stay.

        Args:
            complete: complete checkpoints, with their validation loss where it was measured (not a number counts as
                not measured).
        """
        by_step = sorted(complete, key=lambda place: (place.step, place.name))
        kept = set(by_step[-self.last :])
        if self.every:
            kept |= {place for place in by_step if place.step % self.every == 0}
        measured = {place: loss for place, loss in complete.items() if loss is not None and not math.isnan(loss)}
        return kept | set(sorted(measured, key=lambda place: (measured[place], -place.step, place.name))[: self.best])
