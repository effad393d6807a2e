"""Near duplicates: of clips that look the same, one is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from zoetrope.components.curate.filters.base import Filter, Measure
from zoetrope.components.curate.perceptual_hash import perceptual_hash

if TYPE_CHECKING:
    import pandas

    from zoetrope.components.curate.signals import ShotSignals


class NearDuplicate(Filter):
    """Distance of perceptual hashes (768 bits: 256 for each of three frames).

    Stands last in the table and sees only clips that every filter before it lets through, so that a good copy
    is never dropped for a bad one.

    Attributes:
        max_distance: bits that may differ between two clips that count as the same.
    """

    columns: ClassVar[Mapping[str, type[float] | type[str]]] = {"perceptual_hash": str}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    max_distance: int = Field(130, ge=0, le=300)

    @staticmethod
    def score(shot: ShotSignals, measure: Measure) -> dict[str, float | str]:
        """`perceptual_hash`: 192 hexadecimal digits."""
        return {"perceptual_hash": perceptual_hash(shot.thumbs)}

    def rejects(self, clips: pandas.DataFrame) -> NDArray[np.bool_]:
        """All of a group but the largest, then sharpest, then longest clip, ties broken by clip_id."""
        order = clips.assign(area=clips["crop_width"] * clips["crop_height"], row=np.arange(len(clips)))
        order = order.sort_values(
            ["area", "blur", "seconds", "clip_id"], ascending=[False, False, False, True], kind="stable"
        )
        words = hash_words(order["perceptual_hash"].tolist())
        rejected = np.zeros(len(clips), bool)
        kept = np.empty_like(words)
        count = 0
        for row, word in zip(order["row"].to_numpy(), words, strict=True):
            distances = np.bitwise_count(kept[:count] ^ word).sum(1)
            if (distances <= self.max_distance).any():
                rejected[row] = True
            else:
                kept[count] = word
                count += 1
        return rejected


def hash_words(hashes: list[str]) -> NDArray[np.uint64]:
    """Hexadecimal hashes as uint64 [clips, words of a hash]."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), ">u8").astype(np.uint64).reshape(len(hashes), -1)
