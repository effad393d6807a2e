"""Runs a step's job wherever the step itself runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch.local import interruptible, run_local
from zoetrope.infra.launch.placement import Placement
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.contract import Contract, JobReport, OnEnd
from zoetrope.infra.settings import Settings, mlflow_environment
from zoetrope.infra.steps.context import StepContext

if TYPE_CHECKING:
    from torchx.specs import AppDef

    from zoetrope.infra.cluster import Cluster

FOLLOW_PATIENCE = 600.0
"""Seconds that the API server may be away while a job is followed."""
# What a pod knows about itself is not true of the job's pods.
_OF_THIS_POD = frozenset(
    f"ZOETROPE_{name}" for name in ("POD", "RETRY", "IMAGE", "PLACEMENTS", "RESOURCES", "RUN_DIRECTORY", "RUN_TOKEN")
)


def run_app(
    app: AppDef,
    context: StepContext,
    *,
    environment: Mapping[str, str] | None = None,
    digest: str = "",
    result: str = "",
    iteration: str = "",
    on_end: OnEnd | None = None,
    logs: Path | None = None,
    cluster: Cluster | None = None,
) -> JobReport:
    """Runs all replicas of a job and waits for them: on this machine, or on a cluster as a TrainJob.

    On a cluster the job has a name of its own for each run, step and iteration. One that is there already is taken
    up; it is deleted when the run is terminated, and goes on when only this process ends.

    Args:
        app: the job; its one role's replicas become nodes.
        context: of the step.
        environment: added to the role's environment, which wins.
        digest: identifies what the job computes; a finished job with another digest is replaced.
        result: store key that is there when the job has done its work; empty where that does not matter.
        iteration: tells several jobs of one step apart.
        on_end: is given a TrainJob and all its pods whenever it ended, before it is deleted.
        logs: folder of the replicas' logs on this machine.
        cluster: for tests; the cluster around this pod otherwise.

    Raises:
        ZoetropeError: the job failed; retryable where the same may succeed later.
        SystemExit: (143) the run was terminated.
    """
    settings = Settings()
    if not settings.cluster:
        run_local(app, logs or context.run_directory / "logs" / context.step, environment)
        return JobReport(name=app.name)
    if context.placement is None:
        raise ZoetropeError(
            f"step {context.step}: nothing says where its job runs (ZOETROPE_PLACEMENTS)",
            "compile the pipeline for the cluster again",
        )
    from zoetrope.infra.cluster import Cluster
    from zoetrope.infra.cluster.collect import end_of_job

    placement = context.placement.model_copy(update={"image": context.placement.image or settings.image})
    found = cluster or Cluster.connect(settings.namespace, patience=FOLLOW_PATIENCE)
    name = names.job_name(context.run_id, context.step, iteration)

    def say(text: str) -> None:
        print(f"zoetrope: {context.step}: job {name}: {text}", file=sys.stderr, flush=True)  # noqa: T201
        context.progress(f"job {name}: {text}")

    def write(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    def body(attempt: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        _reserve(context, name, attempt, placement, settings)
        return _body(app, context, placement, settings, name, attempt, owner, digest, environment or {})

    contract = Contract(
        cluster=found,
        name=name,
        make_body=body,
        has_result=lambda: not result or context.store.exists(context.store.uri(result)),
        say=say,
        write=write,
        workflow=settings.workflow,
        schedule_timeout=placement.schedule_timeout,
        max_restarts=placement.max_restarts,
        on_end=on_end or end_of_job(found, context.store, context.run_id, price_sheet=settings.price_sheet),
    )
    with interruptible():
        return contract.fulfil()


def _reserve(context: StepContext, job: str, attempt: int, placement: Placement, settings: Settings) -> None:
    """Sets aside what an attempt may cost; one that was made before has its reservation already.

    Raises:
        ZoetropeError: the run's budget does not cover it.
    """
    from zoetrope.infra.ledger.budget import reservations, reserve
    from zoetrope.infra.runs import RunShelf

    if (job, attempt) in reservations(context.store, context.run_id):
        return
    plan = RunShelf(context.store, context.run_id).plan()
    budget = plan.budget_usd if plan is not None else settings.budget_usd
    reserve(context.store, context.run_id, job, attempt, placement, budget_usd=budget, price_sheet=settings.price_sheet)


def _body(
    app: AppDef,
    context: StepContext,
    placement: Placement,
    settings: Settings,
    name: str,
    attempt: int,
    owner: dict[str, Any] | None,
    digest: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    from zoetrope.infra.launch.trainjob.resource import Identity, trainjob

    handed_on = {key: value for key, value in settings.environment().items() if key not in _OF_THIS_POD}
    told = {"ZOETROPE_RUN_ID": context.run_id, "ZOETROPE_JOB": name, "ZOETROPE_ATTEMPT": str(attempt)}
    identity = Identity(
        name=name,
        namespace=settings.namespace,
        labels={
            names.MANAGED_BY: names.ZOETROPE,
            names.RUN: names.label_value(context.run_id),
            names.STEP: names.label_value(context.step),
            names.ATTEMPT: str(attempt),
        },
        annotations={names.WORKFLOW: settings.workflow, names.DIGEST: digest, names.STORE: context.store.root},
        owner=owner,
    )
    return trainjob(app, placement, identity, {**handed_on, **mlflow_environment(), **told, **environment})
