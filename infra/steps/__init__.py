"""What every step shares: its context, its result, its record and how it is executed."""

from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.steps.execute import execute
from zoetrope.infra.steps.job import Job, execute_job
from zoetrope.infra.steps.publish import task_errors, tracking_environment

__all__ = ["Job", "StepContext", "StepResult", "execute", "execute_job", "task_errors", "tracking_environment"]
