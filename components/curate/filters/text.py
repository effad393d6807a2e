"""Burnt-in text: drops clips with subtitles, logos and time codes."""

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


class TextMeasure(Measure):
    """What counts as dense.

    Attributes:
        block: side of the blocks that are looked at, in pixels at analysis size (longest side 160).
        share: share of a block that is edge at least; a letter has about a third, an outline or a line that crosses
            a block about 1 / block.
    """

    block: int = Field(8, ge=2, le=64)
    share: float = Field(0.2, gt=0, le=1)


class Text(Filter):
    """Share of the picture under dense, hard edges that stay in place for the whole shot.

    A heuristic for overlays, which neither move nor fade; it reads no letters, and text in the scene that moves
    with the camera passes it.

    Attributes:
        max_area: larger shares are dropped.
        measure: what counts as dense.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"text_area": float}

    max_area: float = Field(0.01, ge=0, le=1)
    measure: TextMeasure = TextMeasure()

    @staticmethod
    def score(shot: ShotSignals, measure: TextMeasure) -> dict[str, float | str]:
        """`text_area`: 0 to 1; 0 where a shot is so short that no frame of it was looked at."""
        if not shot.details:
            return {"text_area": 0.0}
        lasting = np.logical_and.reduce([detail.hard_edges for detail in shot.five()])
        return {"text_area": dense_area(lasting, measure.block, measure.share)}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips with much of it."""
        return np.asarray(clips["text_area"] > self.max_area, bool)


def dense_area(edges: NDArray[np.bool_], block: int, share: float) -> float:
    """Share of the picture in blocks of `block` pixels of which at least `share` is edge.

    Args:
        edges: bool [height, width].
        block: side of a block in pixels.
        share: of a block.
    """
    height, width = (side // block * block for side in edges.shape)
    if not height or not width:
        return 0.0
    blocks = edges[:height, :width].reshape(height // block, block, width // block, block).mean((1, 3))
    return float((blocks >= share).mean())
