"""The step `evaluate`: videos in, scores out."""

from __future__ import annotations

from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.infra.steps.context import StepContext, StepResult


def evaluate(config: EvaluateConfig, videos: str, context: StepContext) -> StepResult:
    """Scores the generated videos and the checkpoint that made them.

    Args:
        config: the step's configuration.
        videos: reference to a `zoetrope.videos.v1` manifest, which names its checkpoint, which names its dataset.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.scores.v1`.
    """
    raise NotImplementedError
