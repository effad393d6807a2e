"""How sources are cut and which clips are kept."""

from __future__ import annotations

from pydantic import Field

from zoetrope.components.curate.cut_config import CutConfig, ShotConfig
from zoetrope.components.curate.filters import FilterSettings
from zoetrope.infra.config import StrictModel, neutral


class CurateConfig(StrictModel):
    """Settings of the step `curate`.

    Attributes:
        workers: processes that decode, on a cluster pods; the result is the same for any number.
        max_seconds: longer shots are chopped into pieces of this length (Open-Sora 2.0: 8 s).
        cuts: the shot detector.
        filters: thresholds, applied to stored scores; what reaches a score itself stands under `measure`.
    """

    workers: int = neutral(2, ge=1, le=1000)
    max_seconds: float = Field(8.0, gt=0)
    cuts: CutConfig = CutConfig()
    filters: FilterSettings = FilterSettings()

    @property
    def shots(self) -> ShotConfig:
        """What the shots of a source depend on."""
        return ShotConfig(cuts=self.cuts, max_seconds=self.max_seconds)
