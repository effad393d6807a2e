"""Blur: drops clips without sharp edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from zoetrope.components.curate.filters.base import Filter, Measure

if TYPE_CHECKING:
    import pandas

    from zoetrope.components.curate.signals import ShotSignals


class Blur(Filter):
    """Variance of the Laplacian of five frames; the median is the majority vote of Open-Sora 2.0.

    Attributes:
        minimum: lower is blurred. Open-Sora 2.0 publishes no number; this one parts blurred from sharp sample
            footage.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"blur": float}

    minimum: float = Field(12.0, ge=0)

    @staticmethod
    def score(shot: ShotSignals, measure: Measure) -> dict[str, float | str]:
        """`blur`: squared 8-bit levels, high for sharp pictures; 0 where a shot is too short to be looked at."""
        if not shot.details:
            return {"blur": 0.0}
        return {"blur": float(np.median([detail.sharpness for detail in shot.five()]))}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips whose middle frame of five is blurred."""
        return np.asarray(clips["blur"] < self.minimum, bool)
