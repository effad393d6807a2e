"""Training curves as inline SVG: visible without scripts and on paper, with points for a tooltip."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 12.0, 30.0
# More points than pixels only make the file larger.
MAXIMUM_POINTS = 300
# A curve this long is noisy enough to need an average beside it.
SMOOTH_FROM = 40
LOGARITHMIC_RATIO = 20.0

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One drawn curve.

    Attributes:
        metric: name of the metric.
        first: first value.
        last: last value.
        steps: index of the last point.
        raw: SVG path of the points.
        smooth: SVG path of their average, empty for short curves.
        x_ticks: (position, label).
        y_ticks: (position, label).
        points: JSON of [[x position, y position, index, value], ...] for the tooltip.
        logarithmic: whether the value axis is logarithmic.
    """

    metric: str
    first: float
    last: float
    steps: int
    raw: str
    smooth: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: str
    logarithmic: bool


def draw(metric: str, series: Sequence[Sequence[float]]) -> Curve | None:
    """Draws one metric.

    Args:
        metric: its name.
        series: [[index, value], ...] as training recorded it; values that are not finite are left out.

    Returns:
        The curve, or None where fewer than two points are left.
    """
    points: Points = sorted((float(p[0]), float(p[1])) for p in series if len(p) == 2 and math.isfinite(p[1]))
    if len(points) < 2:
        return None
    first, last = points[0], points[-1]
    smooth = _average(points) if len(points) >= SMOOTH_FROM else []
    points, smooth = _thin(points), _thin(smooth)
    values = [value for _, value in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOGARITHMIC_RATIO
    y_axis = _Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)
    x_axis = _Axis(points[0][0], points[-1][0], LEFT, WIDTH - RIGHT, False)
    places = [[round(x_axis.place(i), 1), round(y_axis.place(v), 1), i, float(f"{v:.5g}")] for i, v in points]
    return Curve(
        metric=metric,
        first=first[1],
        last=last[1],
        steps=int(last[0]),
        raw=_path([(x, y) for x, y, *_ in places]),
        smooth=_path([(x_axis.place(i), y_axis.place(v)) for i, v in smooth]),
        x_ticks=x_axis.ticks(5),
        y_ticks=y_axis.ticks(5),
        points=json.dumps(places),
        logarithmic=logarithmic,
    )


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Position of a value on the drawing."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> tuple[tuple[float, str], ...]:
        """Round values inside the axis with their positions."""
        if self.high == self.low:
            return ((round(self.place(self.low), 1), f"{self.low:.4g}"),)
        values = self._logarithmic_ticks() if self.logarithmic else self._linear_ticks(count)
        return tuple((round(self.place(value), 1), f"{value:.4g}") for value in values)

    def _linear_ticks(self, count: int) -> list[float]:
        rough = (self.high - self.low) / count
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _logarithmic_ticks(self) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [m * 10.0**e for e in exponents for m in (1, 3) if self.low <= m * 10.0**e <= self.high]
        return values or [self.low, self.high]


def _average(points: Points) -> Points:
    """Exponential moving average over about a twentieth of the curve, corrected for its start."""
    decay = 1.0 - 20.0 / len(points) if len(points) > 40 else 0.5
    total = weight = 0.0
    result = []
    for index, value in points:
        total = decay * total + (1.0 - decay) * value
        weight = decay * weight + (1.0 - decay)
        result.append((index, total / weight))
    return result


def _thin(points: Points) -> Points:
    """At most MAXIMUM_POINTS points, evenly chosen, with both ends."""
    if len(points) <= MAXIMUM_POINTS:
        return points
    last = len(points) - 1
    return [points[round(i * last / (MAXIMUM_POINTS - 1))] for i in range(MAXIMUM_POINTS)]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""
