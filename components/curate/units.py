"""The unit of the step's work: one source, decoded once for all that is not measured yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from zoetrope.components.curate.cut_config import ShotConfig
from zoetrope.components.curate.decode import DamagedVideoError, UnreadVideoError
from zoetrope.components.curate.filters import Filter
from zoetrope.components.curate.filters.base import Measure
from zoetrope.components.curate.shots import cut_source, measure_shots, shot_signals
from zoetrope.components.curate.signals import ShotSignals
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.workers import WorkerContext


@dataclass(frozen=True)
class Scorer:
    """A filter that scores shots.

    Attributes:
        name: in the table of filters.
        place: its class, `module:Class`.
        measure: the settings that reach its score; thresholds do not come here.
    """

    name: str
    place: str
    measure: dict[str, Any]

    @classmethod
    def of(cls, name: str, filter_: Filter) -> Scorer:
        """The scorer of a filter."""
        kind = type(filter_)
        return cls(name, f"{kind.__module__}:{kind.__qualname__}", filter_.measure.model_dump(mode="json"))

    def scores(self, shots: list[ShotSignals]) -> dict[str, list[Any]]:
        """The filter's columns for the shots of a source."""
        module, _, name = self.place.partition(":")
        kind: type[Filter] = getattr(import_module(module), name)
        measure = kind.model_fields["measure"].annotation
        assert isinstance(measure, type) and issubclass(measure, Measure)
        return dict(kind.scores(shots, measure.model_validate(self.measure)))


@dataclass(frozen=True)
class MeasureUnit:
    """One source and what is to be measured of it.

    Attributes:
        video: reference of its bytes.
        shots: how it is cut.
        spans: (first PTS, PTS of the end) of its pieces where they are measured already; None where they are not.
        scorers: the filters that have no scores of it yet.
    """

    video: str
    shots: ShotConfig
    spans: list[tuple[int, int]] | None
    scorers: list[Scorer]


@dataclass(frozen=True)
class Measured:
    """What was measured of a source.

    Attributes:
        problem: why it cannot be decoded to its end; empty where it can.
        retryable: whether that may be different next time, so that it is not to be remembered.
        shots: the row of the measurement `shots`; empty where it was known.
        scores: filter -> column -> one value a piece.
    """

    problem: str = ""
    retryable: bool = False
    shots: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, list[Any]]] = field(default_factory=dict)


def measure_source(unit: MeasureUnit, worker_context: WorkerContext) -> Measured:
    """Decodes a source once and measures what the unit names.

    Raises:
        ZoetropeError: a source that was decoded before cannot be decoded now.
    """
    store, reference = worker_context.store, Reference.parse(unit.video)
    local = store.local_path(reference.uri)
    path = local or store.fetch(reference.uri, worker_context.scratch / reference.digest)
    try:
        signals, pieces = cut_source(path, unit.shots, unit.spans)
    except DamagedVideoError as error:
        if unit.spans is not None:
            raise ZoetropeError(
                f"{reference.uri}: {error}; it was decoded to its end before",
                "the object was changed or damaged since; delete it and run ingest again",
            ) from error
        return Measured(str(error), isinstance(error, UnreadVideoError))
    finally:
        if local is None:
            path.unlink(missing_ok=True)
    shots: dict[str, Any] = {}
    if unit.spans is None:
        base = signals.time_base
        shots = {
            "time_base": f"{base.numerator}/{base.denominator}",
            "width": signals.width,
            "height": signals.height,
            **measure_shots(signals, pieces),
        }
    parts = [shot_signals(signals, piece) for piece in pieces]
    return Measured(shots=shots, scores={each.name: each.scores(parts) for each in unit.scorers})
