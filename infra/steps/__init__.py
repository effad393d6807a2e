"""What every step shares: its context, its result, its record and how it is executed."""

from zoetrope.infra.steps.context import StepContext, StepResult
from zoetrope.infra.steps.execute import execute

__all__ = ["StepContext", "StepResult", "execute"]
