"""Runs a TorchX app where the step runs: on this machine, or on the cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import ATTEMPT, GPU_KIND, MANAGED_BY, RUN, STEP, WORKFLOW
from zoetrope.infra.launch.local import interruptible, run_local
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.runner import JobReport, JobRunner, OnFinished
from zoetrope.infra.settings import Settings, mlflow_environment

if TYPE_CHECKING:
    from torchx.specs import AppDef

    from zoetrope.infra.context import StepContext
    from zoetrope.infra.kubernetes import Cluster

__all__ = ["JobReport", "run_app"]

FOLLOW_RETRY_SECONDS = 600.0
"""Seconds that the API server may be away while a job is followed."""
# What a pod knows about itself is not true of the job's pods.
_OF_THIS_POD = frozenset(
    f"ZOETROPE_{name}" for name in ("POD", "PLACEMENTS", "RESOURCES", "RUN_DIRECTORY", "RUN_TOKEN", "RETRY", "IMAGE")
)


def run_app(
    app: AppDef,
    context: StepContext,
    *,
    environment: Callable[[], Mapping[str, str]] = dict,
    digest: str = "",
    result: str = "",
    iteration: str = "",
    on_finished: OnFinished | None = None,
    cluster: Cluster | None = None,
) -> JobReport:
    """Runs all replicas of a job and waits for them: on this machine, or on a cluster as a TrainJob.

    On a cluster the job has a name of its own for each run, step and iteration. One that is there already is adopted;
    it is deleted when the run is terminated, and goes on when only this process ends.

    Args:
        app: the job; its one role's replicas become nodes.
        context: of the step.
        environment: gives what is added to the role's environment, which wins; called when the job is made, so that
            adopting a job that runs already waits for nothing.
        digest: identifies what the job computes; a finished job with another digest is replaced.
        result: store key that is there when the job has done its work; empty where that does not matter.
        iteration: tells several jobs of one step apart.
        on_finished: called with a TrainJob and all its pods when it has ended, before it is deleted; by default the
            ledger's.
        cluster: the cluster around this pod by default.

    Raises:
        ZoetropeError: the job failed; retryable where the same may succeed later.
        SystemExit: (143) the run was terminated.
    """
    settings = Settings()
    if not settings.cluster:
        started = time.monotonic()
        logs = context.run_directory / "logs" / f"{context.step}.{context.attempt}"
        run_local(app, logs, environment())
        return JobReport(name=app.name, attempt=context.attempt, running_seconds=time.monotonic() - started)
    from zoetrope.infra.kubernetes import Cluster
    from zoetrope.infra.reaper.collector import collect_run, finished_job_hook

    found = cluster or Cluster.connect(settings.namespace, retry_seconds=FOLLOW_RETRY_SECONDS)
    job = _JobRequest(app, context, settings, digest, iteration, environment)
    runner = JobRunner(
        cluster=found,
        name=job.name,
        labels=job.labels,
        digest=digest,
        first_attempt=job.first_attempt,
        reserve=job.reserve,
        make_body=job.body,
        has_result=lambda: not result or context.store.exists(context.store.uri(result)),
        on_status=job.report,
        on_log_line=_print,
        workflow=settings.workflow,
        # Argo counts the tries that it makes by itself; a person who asks for another starts over.
        force_new=not settings.retry,
        schedule_timeout=job.placement.schedule_timeout,
        max_restarts=job.placement.max_restarts,
        on_finished=on_finished or finished_job_hook(found, context.store, context.run_id),
        # A run that is deleted takes its pods with it before anybody else may have looked.
        on_scheduled=lambda: collect_run(found, context.store, context.run_id),
    )
    with interruptible():
        return runner.run()


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


@dataclass
class _JobRequest:
    """What a step wants from its TrainJob."""

    app: AppDef
    context: StepContext
    settings: Settings
    digest: str
    iteration: str
    environment: Callable[[], Mapping[str, str]]

    def __post_init__(self) -> None:
        step = self.context.step
        if self.context.placement is None:
            raise ZoetropeError(
                f"step {step}: there is no placement for its job (ZOETROPE_PLACEMENTS)",
                "compile the pipeline for the cluster again",
            )
        placement = self.context.placement
        changes = {"image": placement.image or self.settings.image, "nodes": self.app.roles[0].num_replicas}
        self.placement = placement.model_copy(update=changes)
        self.name = names.job_name(self.context.run_id, step, self.iteration)

    @property
    def labels(self) -> dict[str, str]:
        """Whose the job is."""
        return {
            MANAGED_BY: names.ZOETROPE,
            RUN: names.label_value(self.context.run_id),
            STEP: names.label_value(self.context.step),
        }

    def report(self, text: str) -> None:
        """Prints a line to the launcher's log and to whoever follows the run."""
        print(f"zoetrope: {self.context.step}: job {self.name}: {text}", file=sys.stderr, flush=True)  # noqa: T201
        self.context.progress(f"job {self.name}: {text}")

    def first_attempt(self) -> int:
        """The number of an attempt whose job is not on the cluster (any more)."""
        from zoetrope.infra.ledger.budget import next_job_attempt

        return next_job_attempt(self.context.store, self.context.run_id, self.name)

    def reserve(self, attempt: int) -> None:
        """Sets aside what the attempt may cost; raises ZoetropeError where the budget does not cover it."""
        from zoetrope.infra.ledger.budget import reserve
        from zoetrope.infra.runs import RunFiles, run_price_sheet

        plan = RunFiles(self.context.store, self.context.run_id).plan()
        reserve(
            self.context.store,
            self.context.run_id,
            self.name,
            attempt,
            self.placement,
            budget_usd=plan.budget_usd if plan is not None else self.settings.budget_usd,
            price_sheet=run_price_sheet(self.context.store, self.settings).name,
            namespace=self.settings.namespace,
            workflow=self.settings.workflow,
        )

    def body(self, attempt: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        """The TrainJob of an attempt."""
        from zoetrope.infra.launch.trainjob.resource import Identity, trainjob

        context, settings = self.context, self.settings
        handed_on = {key: value for key, value in settings.environment().items() if key not in _OF_THIS_POD}
        of_job = {
            "ZOETROPE_RUN_ID": context.run_id,
            "ZOETROPE_JOB": self.name,
            "ZOETROPE_ATTEMPT": str(attempt),
        }
        labels = {**self.labels, ATTEMPT: str(attempt)}
        annotations = {WORKFLOW: settings.workflow, names.DIGEST: self.digest, names.STORE: context.store.root}
        if self.placement.gpu_kind:
            annotations[GPU_KIND] = self.placement.gpu_kind
        identity = Identity(
            name=self.name,
            namespace=settings.namespace,
            labels=labels,
            annotations=annotations,
            owner=owner,
            stop_first=owner is not None,
        )
        environment = {
            **handed_on,
            **mlflow_environment(),
            **self.placement.env,
            **of_job,
            **self.environment(),
        }
        return trainjob(self.app, self.placement, identity, environment)
