"""The training objective on clips that the model never saw, at fixed timesteps and with fixed noise."""

from __future__ import annotations

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult


def _measure(inputs: MetricInputs) -> MetricResult:
    return MetricResult({} if inputs.held_out_loss is None else dict(inputs.held_out_loss()))


METRIC = Metric("held_out_loss", False, "flow-matching loss on held-out clips", _measure)
