"""What a metric is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from zoetrope.components.evaluate.judge import Judgement, judge
from zoetrope.components.evaluate.samples import TEXT_TO_VIDEO, TRAINED, UNTRAINED, Sample


@dataclass(frozen=True)
class MetricInputs:
    """Everything that a metric may look at.

    Attributes:
        samples: all generated videos.
        colors: colour words that the data set uses; a guess is right once in this many.
        directions: direction words that the data set uses.
        held_out_loss: measures the flow-matching loss on held-out clips; None where there are none.
    """

    samples: Sequence[Sample]
    colors: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    held_out_loss: Callable[[], Mapping[str, float]] | None = None

    @cached_property
    def judgements(self) -> list[Judgement]:
        """What the judge sees in each sample, computed once for all metrics."""
        return [judge(sample.frames, self.colors, self.directions) for sample in self.samples]


@dataclass(frozen=True)
class MetricResult:
    """Scores of a run and, where there is one, a value for each video.

    Attributes:
        scores: name -> value; empty when the metric does not apply to these videos.
        columns: name -> one value per sample, None where the metric does not apply to it.
    """

    scores: dict[str, float] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: name of the main score; equal to the module's name.
        higher_is_better: which way is good.
        description: one line for the report.
        measure: the work.
    """

    name: str
    higher_is_better: bool
    description: str
    measure: Callable[[MetricInputs], MetricResult]


def attribute_result(
    inputs: MetricInputs, attribute: str, metric: str, seen: Sequence[str], candidates: Sequence[str]
) -> MetricResult:
    """Share of text-to-video samples that show what the prompt asks for, against chance.

    Args:
        inputs: the samples.
        attribute: key of `Sample.attributes`, e.g. `color`.
        metric: name of the score, e.g. `color_accuracy`.
        seen: what the judge saw in each sample, empty for nothing.
        candidates: words to choose from; chance is one in their number.

    Returns:
        For each group (trained, and `untrained_...`): accuracy, number right, number judged and p-value of a
        one-sided exact binomial test against chance; nothing when there are fewer than two words.
    """
    asked = [
        sample.attributes.get(attribute, "") if sample.condition == TEXT_TO_VIDEO else "" for sample in inputs.samples
    ]
    right = [
        None if want not in candidates else want == got for want, got in zip(asked, seen, strict=True)
    ]  # fmt: skip
    scores: dict[str, float] = {}
    if len(candidates) >= 2:
        for group, prefix in ((TRAINED, ""), (UNTRAINED, "untrained_")):
            judged = [r for r, s in zip(right, inputs.samples, strict=True) if r is not None and s.model == group]
            if judged:
                scores |= _group_scores(prefix, attribute, metric, judged, 1.0 / len(candidates))
    if not scores:
        return MetricResult()
    return MetricResult(scores, {f"seen_{attribute}": list(seen), f"{attribute}_right": right})


def _group_scores(prefix: str, attribute: str, metric: str, judged: Sequence[bool], chance: float) -> dict[str, float]:
    from scipy.stats import binomtest

    test = binomtest(sum(judged), len(judged), chance, alternative="greater")
    return {
        f"{prefix}{metric}": sum(judged) / len(judged),
        f"{prefix}{attribute}_correct": float(sum(judged)),
        f"{prefix}{attribute}_count": float(len(judged)),
        f"{prefix}{attribute}_p_value": float(test.pvalue),
        f"{prefix}{attribute}_chance": chance,
    }


def mean_result(inputs: MetricInputs, metric: str, values: Sequence[float]) -> MetricResult:
    """Mean of a value per video for the trained and the untrained group."""
    scores: dict[str, float] = {}
    for group, prefix in ((TRAINED, ""), (UNTRAINED, "untrained_")):
        chosen = [v for v, s in zip(values, inputs.samples, strict=True) if s.model == group]
        if chosen:
            scores[f"{prefix}{metric}"] = sum(chosen) / len(chosen)
    return MetricResult(scores, {metric: list(values)} if scores else {})
