"""The end of a run on a cluster: costs, run record and MLflow.

The exit task does it. KFP does not repeat that task when a person retries a run, so the last step does it then.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.runs import RunFiles, RunPlan, RunRecord, run_price_sheet
from zoetrope.infra.runs.build import StepFailure, build_run_record, reused_records
from zoetrope.infra.runs.record import CodeVersion, RecipeVersion, RunDataset, RunHeader, RunStatus, TrackingRun
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.publish import publish, run_link
from zoetrope.infra.store import Store, get_json, open_store

log = logging.getLogger(__name__)


def finish_run(settings: Settings, message: str = "", unfinished: RunStatus = "FAILED") -> tuple[RunRecord, str]:
    """Files what the run cost, what it made and how it ended.

    Args:
        settings: of the pod.
        message: KFP's message of a failure.
        unfinished: status of a run whose last step has not ended well.

    Returns:
        The run record, and the URL of its MLflow run; empty where MLflow does not answer.
    """
    store = open_store(settings.store)
    run_files = RunFiles(store, settings.run_id)
    plan = run_files.plan() or RunPlan(run_id=settings.run_id, pipeline="", recipe="", recipe_digest="")
    _collect_costs(settings)
    _note_reused(run_files, store, plan)
    status: RunStatus = "FINISHED" if plan.steps and plan.steps[-1] in run_files.steps() else unfinished
    record = _record(run_files, store, settings, plan, status, message)
    run_files.write_record(record)
    published = publish(settings, "finish", {"status": status})
    if published and published["run"] != plan.mlflow_run:  # MLflow was away when the run began
        tracking = TrackingRun(tracking_uri=settings.tracking_uri, run=published["run"])
        record = record.model_copy(update={"mlflow": tracking})
        run_files.write_record(record)
    return record, str(published.get("url", ""))


def finish_after_retry(settings: Settings, run_files: RunFiles, step: str) -> None:
    """After a step: closes the run again where it was closed before and this was its last step."""
    plan = run_files.plan()
    if plan is not None and plan.steps and plan.steps[-1] == step and run_files.record() is not None:
        finish_run(settings)


def _collect_costs(settings: Settings) -> None:
    from zoetrope.infra.reaper.collector import collect_this_run

    try:
        collect_this_run(settings)
    except ZoetropeError as error:  # the reaper collects again; a run is not failed for its bookkeeping
        log.warning("costs: %s", error.headline)


def _note_reused(run_files: RunFiles, store: Store, plan: RunPlan) -> None:
    """Steps that KFP's cache answered ran nothing in this run and could note nothing themselves."""
    known = {step: entry["record"] for step, entry in run_files.steps().items()}
    for step, reference in reused_records(store, known, plan.steps).items():
        run_files.note_step(step, reference, str(get_json(store, reference)["product"]))


def _record(
    run_files: RunFiles, store: Store, settings: Settings, plan: RunPlan, status: RunStatus, message: str
) -> RunRecord:
    steps = run_files.steps()
    header = RunHeader(
        run_id=settings.run_id,
        status=status,
        message=message,
        pipeline=plan.pipeline,
        recipe=RecipeVersion(name=plan.recipe, digest=plan.recipe_digest),
        arguments=plan.arguments,
        started=datetime.fromtimestamp(plan.started, UTC) if plan.started else datetime.now(UTC),
        code=CodeVersion.parse(plan.commit, plan.images),
        dataset=RunDataset.model_validate(plan.dataset) if plan.dataset else None,
        price_sheet=run_price_sheet(store, settings).name,
        mlflow=TrackingRun(tracking_uri=settings.tracking_uri, run=plan.mlflow_run),
        kubeflow=run_link(settings),
    )
    return build_run_record(
        store,
        header,
        {step: entry["record"] for step, entry in steps.items()},
        failures={
            step: StepFailure("failed", error.headline, error.hint) for step, error in run_files.verdicts.all().items()
        },
        mlflow_runs={step: entry["mlflow_run"] for step, entry in steps.items()},
        order=plan.steps,
    )
