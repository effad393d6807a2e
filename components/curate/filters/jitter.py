"""Camera jitter: drops clips whose picture shakes."""

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


class Jitter(Filter):
    """Change that takes itself back: two steps lead less far than twice one step.

    Smooth motion, of the camera too, goes as far in two frames as twice in one; shaking does not. Open-Sora 2.0
    uses the mean change alone, which a smooth pan also raises.

    Attributes:
        maximum: more is shaking. Parts shaking from steady sample footage.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"jitter": float}

    maximum: float = Field(3.0, gt=0)

    @staticmethod
    def score(shot: ShotSignals, measure: Measure) -> dict[str, float | str]:
        """`jitter`: 8-bit levels."""
        if shot.change.size < 2:
            return {"jitter": 0.0}
        one_by_one = shot.change[1:] + shot.change[:-1]
        return {"jitter": float(np.clip(one_by_one - shot.change_over_two, 0, None).mean())}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips that shake."""
        return np.asarray(clips["jitter"] > self.maximum, bool)
