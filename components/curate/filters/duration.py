"""Drops clips that are too short to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from zoetrope.components.curate.filters.base import Filter

if TYPE_CHECKING:
    import pandas


class Duration(Filter):
    """Length of the clip.

    Attributes:
        min_seconds: shorter clips are dropped (Open-Sora 2.0: 2 s).
    """

    min_seconds: float = Field(2.0, ge=0)

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips shorter than `min_seconds`."""
        return np.asarray(clips["seconds"] < self.min_seconds, bool)
