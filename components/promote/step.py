"""Registers a checkpoint and makes it champion when every check passes."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.components.promote.config import PromoteConfig
from zoetrope.infra.steps.context import StepContext, StepResult


def promote(
    config: PromoteConfig, checkpoint: str, scores: str, records: Sequence[str], context: StepContext
) -> StepResult:
    """Registers `checkpoint` and moves the alias `champion` to it when every check passes.

    Args:
        config: when to promote.
        checkpoint: reference to a `zoetrope.checkpoint.v1` product.
        scores: reference to a `zoetrope.scores.v1` product of the same checkpoint.
        records: references to the records of the run's steps (`zoetrope.record.v1`).
        context: the outside world.

    Returns:
        Product `zoetrope.promotion.v1`.
    """
    raise NotImplementedError
