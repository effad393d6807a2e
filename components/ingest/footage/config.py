"""What sample footage shows and how much of it is broken on purpose."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from zoetrope.infra.config import StrictModel

Color = Literal["red", "green", "blue", "yellow", "magenta", "cyan"]
Direction = Literal["left", "right", "up", "down"]
Shape = Literal["circle", "square", "triangle"]


class DefectRates(StrictModel):
    """Share of shots (first five), films (next four) or extra files (last two) that carry a defect.

    The number of defects is `round(rate * count)`, so that the truth has known rates and no luck in it.
    """

    static: float = Field(0.02, ge=0, le=1)
    blur: float = Field(0.02, ge=0, le=1)
    bars: float = Field(0.02, ge=0, le=1)
    text: float = Field(0.02, ge=0, le=1)
    jitter: float = Field(0.02, ge=0, le=1)
    low_bits: float = Field(0.02, ge=0, le=1)
    low_fps: float = Field(0.02, ge=0, le=1)
    truncated: float = Field(0.02, ge=0, le=1)
    variable_frame_rate: float = Field(0.03, ge=0, le=1)
    duplicate: float = Field(0.02, ge=0, le=1)
    reencoded: float = Field(0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.static + self.blur + self.bars + self.text + self.jitter > 1:
            raise ValueError("static, blur, bars, text and jitter exclude each other; together at most 1")
        if self.low_bits + self.low_fps + self.truncated + self.variable_frame_rate > 1:
            raise ValueError("low_bits, low_fps, truncated and variable_frame_rate together at most 1")
        return self


class FootageConfig(StrictModel):
    """Settings of `render_footage`; the same settings give the same pixels.

    Attributes:
        seed: picks everything that is random.
        films: number of films, without the duplicates that `rates` adds.
        shots_per_film: scenes in a film.
        size: width and height in pixels, even.
        fps: frames a second; films with the defect `low_fps` have 12.
        shot_seconds: shortest length of a scene outside dissolves.
        dissolve_rate: share of the cuts that are dissolves.
        colors: how many colours of red, green, blue, yellow, magenta, cyan are used.
        directions: how many of left, right, up, down are used.
        shapes: how many of circle, square, triangle are used.
        held_out_pairs: (colour, direction) pairs that no film shows; the held-out prompts ask for them.
        defects: False renders clean films only.
        rates: how many defects of each kind.
    """

    seed: int = Field(0, ge=0)
    films: int = Field(100, ge=1, le=100_000)
    shots_per_film: int = Field(7, ge=1, le=100)
    size: int = Field(96, ge=48, le=1024, multiple_of=2)
    fps: int = Field(24, ge=16, le=60)
    shot_seconds: float = Field(2.2, ge=0.5, le=30)
    dissolve_rate: float = Field(0.15, ge=0, le=1)
    colors: int = Field(6, ge=1, le=6)
    directions: int = Field(4, ge=1, le=4)
    shapes: int = Field(3, ge=1, le=3)
    held_out_pairs: int = Field(6, ge=0)
    defects: bool = True
    rates: DefectRates = DefectRates()

    @model_validator(mode="after")
    def _pairs_remain(self) -> Self:
        if self.held_out_pairs > self.colors * self.directions - max(self.colors, self.directions):
            raise ValueError("held_out_pairs: every colour and every direction has to stay in the films")
        return self
