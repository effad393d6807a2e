"""How little a video changes from frame to frame.

VBench's formula of temporal flickering, (255 - mean absolute difference of adjacent frames) / 255, but over
all videos: VBench takes only the static ones of a prompt suite of its own, so the two numbers do not compare.
"""

from __future__ import annotations

import numpy as np

from zoetrope.components.evaluate.metric import Metric, MetricInputs, MetricResult, mean_result


def _measure(inputs: MetricInputs) -> MetricResult:
    values = []
    for sample in inputs.samples:
        frames = sample.frames.astype(np.float32)
        difference = float(np.abs(np.diff(frames, axis=0)).mean()) if len(frames) > 1 else 0.0
        values.append((255.0 - difference) / 255.0)
    return mean_result(inputs, "temporal_flicker", values)


METRIC = Metric("temporal_flicker", True, "1 means that adjacent frames are equal (not VBench's score)", _measure)
