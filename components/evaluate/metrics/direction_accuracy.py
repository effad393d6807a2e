"""Does the object move where the prompt sends it?"""

from __future__ import annotations

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult, attribute_result


def _measure(inputs: MetricInputs) -> MetricResult:
    seen = [judgement.direction for judgement in inputs.judgements]
    return attribute_result(inputs, "direction", "direction_accuracy", seen, inputs.directions)


METRIC = Metric("direction_accuracy", True, "share of videos whose object moves as the prompt says", _measure)
