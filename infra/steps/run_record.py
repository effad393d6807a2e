"""The end of a run on a cluster: costs, run record and MLflow.

The exit task does it. KFP does not repeat that task when a person retries a run, so the last step does it then.
"""

from __future__ import annotations

import logging
import time
from decimal import Decimal
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import collect
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.runs import RunFiles, RunPlan
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.publish import publish, run_link
from zoetrope.infra.store import Store, get_json, open_store

log = logging.getLogger(__name__)


def finish_run(settings: Settings, message: str = "", unfinished: str = "FAILED") -> tuple[dict[str, Any], str]:
    """Files what the run cost, what it made and how it ended.

    Args:
        settings: of the pod.
        message: KFP's message of a failure.
        unfinished: status of a run whose last step has not ended well.

    Returns:
        The run record (`zoetrope.run.v1`), and the URL of its MLflow run; empty where MLflow does not answer.
    """
    store = open_store(settings.store)
    run_files = RunFiles(store, settings.run_id)
    plan = run_files.plan() or RunPlan(run_id=settings.run_id, pipeline="", recipe="", recipe_digest="")
    _collect_costs(settings)
    _note_cached(run_files, store, plan)
    status = "FINISHED" if plan.steps and plan.steps[-1] in run_files.steps() else unfinished
    record = _record(run_files, store, settings, plan, status, message)
    run_files.write_record(record)
    published = publish(settings, "finish", {"status": status})
    if published and published["run"] != plan.mlflow_run:  # MLflow was away when the run began
        record["mlflow"]["run"] = published["run"]
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


def _note_cached(run_files: RunFiles, store: Store, plan: RunPlan) -> None:
    """Steps that KFP's cache answered ran nothing in this run; the last ones were given their records."""
    known = run_files.steps()
    for last in ("promote", "report"):
        inputs = get_json(store, known[last]["record"])["inputs"] if last in known else {}
        for step, reference in inputs.items():
            if step in plan.steps and step not in known:
                run_files.note_step(step, reference, str(get_json(store, reference)["product"]))


def _record(
    run_files: RunFiles, store: Store, settings: Settings, plan: RunPlan, status: str, message: str
) -> dict[str, Any]:
    sheet = load_price_sheet(plan.price_sheet)
    entries = collect(store, settings.run_id)
    steps = {}
    for step, entry in run_files.steps().items():
        record = get_json(store, entry["record"])
        kept = {key: record[key] for key in ("attempt", "seconds", "resources", "usage", "product", "key_figure")}
        spent = sum((cost(each, sheet) for each in entries if each.step == step), Decimal(0))
        status_of = "succeeded" if record["run_id"] == settings.run_id else "cached"
        steps[step] = {"status": status_of, "record": entry["record"], "mlflow_run": entry["mlflow_run"], **kept}
        steps[step]["cost_usd"] = str(spent)
    return {
        "schema": "zoetrope.run.v1",
        "run_id": settings.run_id,
        "status": status,
        "message": message,
        "pipeline": plan.pipeline,
        "recipe": {"name": plan.recipe, "digest": plan.recipe_digest},
        "arguments": plan.arguments,
        "started": plan.started,
        "finished": time.time(),
        "code": {"commit": plan.commit, "images": plan.images},
        "dataset": plan.dataset or _made_dataset(steps, store),
        "cost_usd": str(sum((cost(each, sheet) for each in entries), Decimal(0))),
        "price_sheet": sheet.name,
        "mlflow": {"tracking_uri": settings.tracking_uri, "run": plan.mlflow_run},
        "kubeflow": run_link(settings),
        "steps": steps,
    }


def _made_dataset(steps: dict[str, Any], store: Store) -> dict[str, str]:
    """The dataset version that the run made; its tag and revision are given by `zoetrope data adopt`."""
    if "encode" not in steps:
        return {}
    reference = str(steps["encode"]["product"])
    manifest = get_json(store, reference)
    return {"reference": reference, "name": str(manifest["name"]), "digest": str(manifest["digest"])}
