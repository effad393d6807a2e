"""Runs a TorchX app where the step runs: on this machine, or on the cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch.local import run_local
from zoetrope.infra.settings import Settings

if TYPE_CHECKING:
    from torchx.specs import AppDef

    from zoetrope.infra.steps.context import StepContext


@dataclass(frozen=True)
class JobReport:
    """How a job went.

    Attributes:
        name: of the job.
        attempt: 1 for the first try.
        queued_seconds: time until its pods ran.
        running_seconds: time that they ran.
    """

    name: str
    attempt: int = 1
    queued_seconds: float = 0.0
    running_seconds: float = 0.0


def run_app(
    app: AppDef,
    context: StepContext,
    *,
    environment: Mapping[str, str] | None = None,
    digest: str = "",
    result: str = "",
) -> JobReport:
    """Runs the app to its end.

    Args:
        app: what to run.
        context: of the step.
        environment: for all roles.
        digest: of what the job computes.
        result: key in the store that holds the job's result when it is complete.
    """
    if Settings().cluster:
        raise ZoetropeError("jobs on a cluster are not part of this version", "run it on this machine")
    started = time.monotonic()
    run_local(app, context.run_directory / "logs" / f"{context.step}.{context.attempt}", environment)
    return JobReport(app.name, context.attempt, 0.0, time.monotonic() - started)
