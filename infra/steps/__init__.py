"""What every step shares: its context, its result, its record and how it is executed."""

from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.steps.execute import execute
from zoetrope.infra.steps.job import StepJob, execute_job
from zoetrope.infra.steps.publish import task_errors, tracking_environment

__all__ = ["StepContext", "StepJob", "StepResult", "execute", "execute_job", "task_errors", "tracking_environment"]
