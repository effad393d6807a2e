"""What every filter has: scores from the decode pass, and a decision from the stored scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoetrope.infra.config import StrictModel

if TYPE_CHECKING:
    import pandas

    from zoetrope.components.curate.signals import ShotSignals


class Filter(StrictModel):
    """A signal of a shot and the thresholds on it; a sub-class is one file in this folder.

    Attributes:
        enabled: False computes the score but drops nothing.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of clips.parquet that `score` fills."""

    enabled: bool = True

    @staticmethod
    def score(shot: ShotSignals) -> dict[str, float]:
        """The filter's columns for one shot; empty where it judges other columns."""
        return {}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """True for every row of `clips` that this filter says no to."""
        raise NotImplementedError
