"""The work of the exit task: costs, run record and MLflow, however the run ended."""

from __future__ import annotations

import logging
import time
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import collect
from zoetrope.infra.links import address
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.runs import RunPlan, RunShelf
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.cluster import publish, run_link
from zoetrope.infra.steps.outputs import DOCUMENT, STYLE, Artifact
from zoetrope.infra.store import Store, get_json, open_store
from zoetrope.pipelines.step_table import STEPS

log = logging.getLogger(__name__)
LAST_STEP = "report"
"""Every pipeline ends with it, and it is never answered from the cache."""


def finish(state: str, message: str, settings: Settings, page: Artifact) -> None:
    """Files what the run cost, what it made and how it ended.

    Args:
        state: KFP's word for how the steps ended. Servers disagree about the words (`COMPLETE`, `SUCCEEDED`), so it
            only tells a cancelled run from a failed one.
        message: KFP's message of a failure.
        settings: of the pod.
        page: KFP's HTML artifact.
    """
    store = open_store(settings.store)
    shelf = RunShelf(store, settings.run_id)
    _collect_costs(settings)
    _note_cached(shelf, store)
    unfinished = "KILLED" if state.upper().startswith("CANCEL") else "FAILED"
    status = "FINISHED" if LAST_STEP in shelf.steps() else unfinished
    record = run_record(shelf, store, settings, status, message)
    shelf.write_record(record)
    published = publish(settings, "finish", {"status": record["status"]})
    path = Path(page.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(record, str(published.get("url", ""))), encoding="utf-8")
    page.metadata["schema"] = "zoetrope.page.v1"


def _collect_costs(settings: Settings) -> None:
    from zoetrope.infra.cluster.collect import collect_this_run

    try:
        collect_this_run(settings)
    except ZoetropeError as error:  # the reaper collects again; a run is not failed for its bookkeeping
        log.warning("costs: %s", error.headline)


def _note_cached(shelf: RunShelf, store: Store) -> None:
    """Steps that KFP's cache answered ran nothing in this run; the last ones were given their records."""
    known = shelf.steps()
    for last in ("promote", "report"):
        inputs = get_json(store, known[last]["record"])["inputs"] if last in known else {}
        for step, reference in inputs.items():
            if step in STEPS and step not in known:
                shelf.note_step(step, reference, str(get_json(store, reference)["product"]))


def run_record(shelf: RunShelf, store: Store, settings: Settings, status: str, message: str) -> dict[str, Any]:
    """`zoetrope.run.v1` of a run on a cluster."""
    plan = shelf.plan() or RunPlan(run_id=settings.run_id, pipeline="", recipe="", recipe_digest="")
    sheet = load_price_sheet(plan.price_sheet)
    entries = collect(store, settings.run_id)
    steps = {}
    for step, entry in shelf.steps().items():
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


def _page(record: dict[str, Any], mlflow: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(step)}</td><td>{value['seconds']:.1f}</td><td>{value['cost_usd']}</td>"
        f"<td>{escape(value['key_figure'])}</td></tr>"
        for step, value in record["steps"].items()
    )
    link = f"<nav>{address('MLflow run', mlflow)}</nav>" if mlflow else ""
    facts = f"<p>{escape(record['status'])}, {record['cost_usd']} USD by {escape(record['price_sheet'])}. "
    facts += f"{escape(record['message'])}</p>"
    head = "<tr><th>step<th>seconds<th>USD<th>key figure</tr>"
    title = f"run {escape(record['run_id'])}"
    return (
        f"{DOCUMENT} html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{link}<h1>{title}</h1>"
        f"{facts}<table>{head}{rows}</table>"
    )
