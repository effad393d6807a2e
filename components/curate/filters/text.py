"""Burnt-in text: drops clips with subtitles, logos and time codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from zoetrope.components.curate.filters.base import Filter

if TYPE_CHECKING:
    import pandas

    from zoetrope.components.curate.signals import ShotSignals


class Text(Filter):
    """Share of the picture under dense, hard edges that stay in place for the whole shot.

    A heuristic for overlays, which neither move nor fade; it reads no letters, and text in the scene that moves
    with the camera passes it.

    Attributes:
        max_area: larger shares are dropped.
    """

    columns: ClassVar[tuple[str, ...]] = ("text_area",)

    max_area: float = Field(0.01, ge=0, le=1)

    @staticmethod
    def score(shot: ShotSignals) -> dict[str, float]:
        """`text_area`: 0 to 1; 0 where a shot is so short that no frame of it was looked at."""
        if not shot.details:
            return {"text_area": 0.0}
        lasting = np.logical_and.reduce([detail.hard_edges for detail in shot.five()])
        return {"text_area": dense_area(lasting)}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """Clips with much of it."""
        return np.asarray(clips["text_area"] > self.max_area, bool)


def dense_area(edges: NDArray[np.bool_], block: int = 8, share: float = 0.2) -> float:
    """Share of the picture in blocks of `block` pixels of which at least `share` is edge.

    Args:
        edges: bool [height, width].
        block: side of a block in pixels.
        share: edge pixels a letter has at least; an outline or a line crossing a block has about 1 / block.
    """
    height, width = (side // block * block for side in edges.shape)
    if not height or not width:
        return 0.0
    blocks = edges[:height, :width].reshape(height // block, block, width // block, block).mean((1, 3))
    return float((blocks >= share).mean())
