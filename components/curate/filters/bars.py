"""Black bars: cropped away; only clips of which too little remains are dropped."""

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


class Bars(Filter):
    """Share of the picture that is black border, and the shape of the rest.

    Attributes:
        max_area: clips with a larger share of border are dropped.
        min_aspect: width / height of the rest (Open-Sora 2.0's raw gate: 1/3).
        max_aspect: width / height of the rest (Open-Sora 2.0's raw gate: 3).
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"bars_area": float}

    max_area: float = Field(0.5, ge=0, le=1)
    min_aspect: float = Field(1 / 3, gt=0)
    max_aspect: float = Field(3.0, gt=0)

    @staticmethod
    def score(shot: ShotSignals, measure: Measure) -> dict[str, float | str]:
        """`bars_area`: 0 to 1."""
        return {"bars_area": shot.bars_area}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips of which too little or too odd a picture remains."""
        aspect = clips["crop_width"] / clips["crop_height"].clip(lower=1)
        wrong = (clips["bars_area"] > self.max_area) | (aspect < self.min_aspect) | (aspect > self.max_aspect)
        return np.asarray(wrong, bool)
