"""How sources are cut and which clips are kept."""

from __future__ import annotations

from pydantic import Field

from zoetrope.components.curate.filters import FilterSettings
from zoetrope.infra.config import StrictModel, neutral


class CutConfig(StrictModel):
    """The shot detector.

    Attributes:
        ratio: a cut changes the picture this many times more than the frames around it do.
        minimum: and by at least this much, in 8-bit levels (mean over the picture) plus histogram change.
        window: frames on each side that a change is compared with.
        dissolve_frames: longest gradual transition that is searched for; 0 searches for none.
        dissolve_minimum: change across a dissolve, in 8-bit levels.
        dissolve_linearity: largest distance of the middle frame from the mean of both ends, as a share of the change.
    """

    ratio: float = Field(3.0, gt=1)
    minimum: float = Field(8.0, gt=0)
    window: int = Field(3, ge=1, le=30)
    dissolve_frames: int = Field(24, ge=0, le=120)
    dissolve_minimum: float = Field(5.0, gt=0)
    dissolve_linearity: float = Field(0.28, gt=0, le=1)


class CurateConfig(StrictModel):
    """Settings of the step `curate`.

    Attributes:
        workers: processes that decode, on a cluster pods; the result is the same for any number.
        max_seconds: longer shots are chopped into pieces of this length (Open-Sora 2.0: 8 s).
        cuts: the shot detector.
        filters: thresholds, applied to stored scores.
    """

    workers: int = neutral(2, ge=1, le=1000)
    max_seconds: float = Field(8.0, gt=0)
    cuts: CutConfig = CutConfig()
    filters: FilterSettings = FilterSettings()
