"""The table of filters: one file a filter, one line each, in the order in which they are asked."""

from __future__ import annotations

from zoetrope.components.curate.filters.bars import Bars
from zoetrope.components.curate.filters.base import Filter
from zoetrope.components.curate.filters.blur import Blur
from zoetrope.components.curate.filters.duration import Duration
from zoetrope.components.curate.filters.jitter import Jitter
from zoetrope.components.curate.filters.motion import Motion
from zoetrope.components.curate.filters.near_duplicate import NearDuplicate
from zoetrope.components.curate.filters.text import Text
from zoetrope.infra.config import StrictModel

__all__ = ["Filter", "FilterSettings"]


class FilterSettings(StrictModel):
    """Every filter with its thresholds; the fields are the table."""

    duration: Duration = Duration()
    bars: Bars = Bars()
    motion: Motion = Motion()
    jitter: Jitter = Jitter()
    blur: Blur = Blur()
    text: Text = Text()
    near_duplicate: NearDuplicate = NearDuplicate()

    def table(self) -> dict[str, Filter]:
        """Name -> filter, in order."""
        return {name: getattr(self, name) for name in type(self).model_fields}
