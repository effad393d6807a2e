"""Motion: drops still pictures and pictures that change beyond recognition."""

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


class Motion(Filter):
    """Mean change of the low-pass filtered picture, as VMAF's motion feature measures it, for frames 1/24 s apart.

    Attributes:
        minimum: less is a still picture. Open-Sora 2.0 publishes no number; this one parts still from moving
            sample footage.
        maximum: more is noise, flicker or a missed cut.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"motion": float}

    minimum: float = Field(0.35, ge=0)
    maximum: float = Field(20.0, gt=0)

    @staticmethod
    def score(shot: ShotSignals, measure: Measure) -> dict[str, float | str]:
        """`motion`: 8-bit levels a 24th of a second."""
        return {"motion": float(shot.change.mean()) * shot.fps / 24 if shot.change.size else 0.0}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips outside [minimum, maximum]."""
        return np.asarray(~clips["motion"].between(self.minimum, self.maximum), bool)
