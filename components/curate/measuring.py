"""Measures sources: their shots, and the score of each filter, each under a key of its own; decodes what is missing.

The key of a measurement holds its own settings, the code that computes it, the libraries that may change it, and for a
score the key of the shots. It holds no threshold, so another threshold finds everything measured, and another filter
measures itself alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.measurements import Measurement
from zoetrope.components.curate.shots import SHOT_COLUMNS
from zoetrope.components.curate.units import Measured, MeasureUnit, Scorer, measure_source
from zoetrope.infra.context import StepContext
from zoetrope.infra.keys import KeyParts, libraries, operators
from zoetrope.infra.references import Reference, digest_json
from zoetrope.infra.workers import map_units

SHOTS = "shots"
SHOTS_MODULE = "zoetrope.components.curate.shots"
SHOTS_LIBRARIES = ("av", "numpy")
STEP_DATA = "zoetrope.components.curate/"
"""Files beside the step's own modules, such as the suite of its gate: no measurement reads one."""
PART_SOURCES = 256
PART_SECONDS = 300.0
"""What was measured is written after so many sources or so much time; a killed step loses no more than that."""


@dataclass(frozen=True)
class Measurements:
    """All that is measured of some sources, by the SHA-256 of their bytes.

    Attributes:
        shots: one row a source: `problem`, `time_base`, `width`, `height`, and lists of `SHOT_COLUMNS`.
        scores: filter -> one row a source: lists of the filter's columns, one value a shot.
        unread: source -> why the system did not let us read it; nothing of that is stored.
    """

    shots: Measurement
    scores: dict[str, Measurement]
    unread: dict[str, str] = field(default_factory=dict)

    def problems(self) -> dict[str, str]:
        """Source -> why it cannot be decoded to its end."""
        known = self.shots.column("problem")
        return {source: problem for source, problem in known.items() if problem} | self.unread


def measurement_keys(config: CurateConfig) -> dict[str, KeyParts]:
    """Name of the measurement -> all that it depends on beside the source: `shots`, and each filter with scores."""
    shots = KeyParts(
        step=SHOTS,
        config=config.shots.model_dump(mode="json"),
        operators=_operators(SHOTS_MODULE),
        libraries=libraries(SHOTS_LIBRARIES),
    )
    scores = {
        name: KeyParts(
            step=name,
            config=filter_.measure.model_dump(mode="json"),
            inputs={SHOTS: shots.digest()},
            operators=_operators(type(filter_).__module__),
            libraries=libraries(filter_.libraries),
        )
        for name, filter_ in config.filters.table().items()
        if filter_.columns
    }
    return {SHOTS: shots, **scores}


def measure(config: CurateConfig, videos: Sequence[str], context: StepContext) -> Measurements:
    """Finds what is measured of these sources, and measures the rest.

    Args:
        config: of the step; its thresholds are not looked at.
        videos: references of the bytes of the sources.
        context: of the step.
    """
    keys = {name: parts.digest() for name, parts in measurement_keys(config).items()}
    known = _open(config, keys, context)
    if not context.fresh:
        sources = {Reference.parse(video).digest for video in videos}
        for each in (known.shots, *known.scores.values()):
            each.load(sources)
    units = _units(config, videos, known)
    if len(units) < len(videos):
        context.progress(f"{len(videos) - len(units)} of {len(videos)} sources are measured already")
    # What another run left half-way is taken up, unless this one computes everything anew.
    key = digest_json([keys, context.key]) if context.fresh else digest_json(keys)
    answers = map_units(measure_source, units, context, config.workers, "sources measured", key=key)
    last = time.monotonic()
    try:
        for number, (unit, measured) in enumerate(zip(units, answers, strict=True), 1):
            _take(known, Reference.parse(unit.video).digest, measured)
            if number % PART_SOURCES == 0 or time.monotonic() - last > PART_SECONDS:
                _write(known)
                last = time.monotonic()
    finally:  # what was measured before a failure is kept
        _write(known)
    return known


def _operators(module: str) -> dict[str, str]:
    return {name: digest for name, digest in operators(module).items() if not name.startswith(STEP_DATA)}


def _open(config: CurateConfig, keys: dict[str, str], context: StepContext) -> Measurements:
    import pyarrow

    text, whole = pyarrow.string(), pyarrow.int64()
    columns = {"problem": text, "time_base": text, "width": whole, "height": whole}
    columns |= dict.fromkeys(SHOT_COLUMNS, pyarrow.list_(whole))
    shots = Measurement(context.store, SHOTS, keys[SHOTS], pyarrow.schema(columns))
    kinds = {float: pyarrow.float64(), str: text}
    scores = {}
    for name, filter_ in config.filters.table().items():
        if filter_.columns:
            schema = pyarrow.schema({column: pyarrow.list_(kinds[kind]) for column, kind in filter_.columns.items()})
            scores[name] = Measurement(context.store, name, keys[name], schema)
    return Measurements(shots, scores)


def _units(config: CurateConfig, videos: Sequence[str], known: Measurements) -> list[MeasureUnit]:
    """What is missing, one unit a source, in the order of the sources."""
    problems = known.problems()
    units = []
    for video in videos:
        source = Reference.parse(video).digest
        if problems.get(source):
            continue
        scorers = [
            Scorer.of(name, filter_)
            for name, filter_ in config.filters.table().items()
            if filter_.columns and source not in known.scores[name]
        ]
        if source not in known.shots:
            units.append(MeasureUnit(video, config.shots, None, scorers))
        elif scorers:
            row = known.shots.row(source)
            spans = list(zip(row["start_pts"], row["end_pts"], strict=True))
            units.append(MeasureUnit(video, config.shots, spans, scorers))
    return units


def _take(known: Measurements, source: str, measured: Measured) -> None:
    if measured.problem:
        if measured.retryable:
            known.unread[source] = measured.problem
        else:
            known.shots.add(source, {"problem": measured.problem})
        return
    if measured.shots:
        known.shots.add(source, {"problem": "", **measured.shots})
    for name, columns in measured.scores.items():
        known.scores[name].add(source, columns)


def _write(known: Measurements) -> None:
    for each in (known.shots, *known.scores.values()):
        each.write()
