"""How well a frame is foretold by its neighbours.

VBench drops every second frame, lets a network interpolate it again and takes (255 - mean absolute
difference) / 255. Here the mean of the two neighbours takes the place of the network: not comparable.
"""

from __future__ import annotations

import numpy as np

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult, mean_result


def _measure(inputs: MetricInputs) -> MetricResult:
    values = []
    for sample in inputs.samples:
        frames = sample.frames.astype(np.float32)
        error = np.abs(frames[1:-1:2] - (frames[:-2:2] + frames[2::2]) / 2.0)
        values.append((255.0 - (float(error.mean()) if error.size else 0.0)) / 255.0)
    return mean_result(inputs, "motion_smoothness", values)


METRIC = Metric("motion_smoothness", True, "1 means that neighbours foretell each frame (not VBench's score)", _measure)
