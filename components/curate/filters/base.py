"""What every filter has: scores that are measured once, and a decision from the stored scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoetrope.infra.config import StrictModel

if TYPE_CHECKING:
    import pandas

    from zoetrope.components.curate.signals import ShotSignals


class Measure(StrictModel):
    """Settings that reach a filter's score. They are in the key of its stored scores; thresholds are not."""


class Filter(StrictModel):
    """A signal of a shot and the thresholds on it; a sub-class is one file in this folder.

    Attributes:
        enabled: False computes the score but drops nothing.
        measure: all that the score depends on beside the shot; another value measures this filter again, and no
            other. A sub-class whose score has settings gives it a model of its own.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {}
    """Columns of clips.parquet that `score` fills, and what they hold; empty where it judges other columns."""

    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    """Distributions whose version may change the score."""

    enabled: bool = True
    measure: Measure = Measure()

    @staticmethod
    def score(shot: ShotSignals, measure: Any) -> dict[str, float | str]:
        """The filter's columns for one shot.

        Args:
            shot: signals of the shot.
            measure: the filter's own `Measure`. No threshold can be seen here, so none can change a score.
        """
        return {}

    @classmethod
    def scores(cls, shots: Sequence[ShotSignals], measure: Measure) -> dict[str, list[float | str]]:
        """The filter's columns for the shots of one source, in their order."""
        rows = [cls.score(shot, measure) for shot in shots]
        return {column: [row[column] for row in rows] for column in cls.columns}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """True for every row of `clips` that this filter says no to."""
        raise NotImplementedError
