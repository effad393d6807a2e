"""The table of metrics: one file and one line for each."""

from zoetrope.components.evaluate.metric import Metric
from zoetrope.components.evaluate.metrics import (
    color_accuracy,
    direction_accuracy,
    dynamic_degree,
    held_out_loss,
    motion_smoothness,
    temporal_flicker,
)

METRICS: dict[str, Metric] = {
    module.METRIC.name: module.METRIC
    for module in (
        color_accuracy,
        direction_accuracy,
        temporal_flicker,
        motion_smoothness,
        dynamic_degree,
        held_out_loss,
    )
}

__all__ = ["METRICS"]
