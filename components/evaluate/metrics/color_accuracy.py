"""Does the object have the colour that the prompt asks for?"""

from __future__ import annotations

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult, attribute_result


def _measure(inputs: MetricInputs) -> MetricResult:
    seen = [judgement.color for judgement in inputs.judgements]
    return attribute_result(inputs, "color", "color_accuracy", seen, inputs.colors)


METRIC = Metric("color_accuracy", True, "share of videos whose object has the colour of the prompt", _measure)
