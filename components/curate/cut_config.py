"""How sources are cut: all settings that the shots of a source depend on, and no threshold of any filter."""

from __future__ import annotations

from pydantic import Field

from zoetrope.infra.config import StrictModel


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


class ShotConfig(StrictModel):
    """What the shots of a source depend on.

    Attributes:
        cuts: the shot detector.
        max_seconds: longer shots are chopped.
    """

    cuts: CutConfig
    max_seconds: float
