"""The step `generate`: prompts and a checkpoint in, videos out."""

from __future__ import annotations

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.infra.steps.context import StepContext, StepResult


def generate(config: GenerateConfig, checkpoint: str, context: StepContext) -> StepResult:
    """Generates videos for held-out prompts and, as a control group, with an untrained model.

    Args:
        config: the step's configuration.
        checkpoint: reference to a `zoetrope.checkpoint.v1` manifest.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.videos.v1`.
    """
    raise NotImplementedError
