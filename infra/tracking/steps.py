"""Files the record of a step in its nested MLflow run, for local runs and for pods alike."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoetrope.infra.datasets.layout import directory_object
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_json
from zoetrope.infra.tracking.tracker import Tracker


def log_step(
    tracker: Tracker, mlflow_run: str, step: str, record: Mapping[str, Any], reference: str, run_id: str, store: Store
) -> None:
    """Everything that a finished (or reused) step leaves in its nested run.

    Args:
        tracker: where to.
        mlflow_run: the step's nested run.
        step: name of the step.
        record: `zoetrope.record.v1`.
        reference: of the record.
        run_id: the pipeline run that logs; a record of another run was answered from the cache and cost nothing now.
        store: for the artifacts.
    """
    reused = record["run_id"] != run_id
    tags = {
        "zoetrope.step": step,
        "zoetrope.product": record["product"],
        "zoetrope.record": reference,
        "zoetrope.reused_from": record["run_id"] if reused else "",
        "zoetrope.key_figure": record["key_figure"],
    }
    tracker.set_tags(mlflow_run, tags)
    _log_dataset(tracker, mlflow_run, step, record, store)
    tracker.log_parameters(mlflow_run, record["parameters"])
    for name, artifact in record["artifacts"].items():
        if not artifact.partition("@")[0].endswith(".safetensors"):  # weights stay where they are: no copies
            _log_object(tracker, mlflow_run, name, artifact, store)
    metrics = dict(record["metrics"])
    metrics |= {"seconds": 0.0 if reused else record["seconds"]}
    metrics |= {"cost_usd": 0.0 if reused else float(record["cost_usd"])}
    metrics |= {"peak_memory_bytes": float(record["usage"]["peak_memory_bytes"])}
    tracker.finish(mlflow_run, "FINISHED", metrics)


def _log_dataset(tracker: Tracker, mlflow_run: str, step: str, record: Mapping[str, Any], store: Store) -> None:
    reference = record["inputs"].get("dataset") or (record["product"] if step == "encode" else "")
    if not reference:
        return
    manifest = get_json(store, reference)
    context = "curation" if step == "encode" else "training"
    md5, _ = directory_object(manifest["shards"])
    tracker.log_dataset(mlflow_run, manifest["name"], md5, Reference.parse(reference).uri, context=context)


def _log_object(tracker: Tracker, mlflow_run: str, name: str, reference: str, store: Store) -> None:
    uri = Reference.parse(reference).uri
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        local = store.fetch(uri, Path(folder) / f"{name}{Path(uri).suffix}")
        tracker.log_artifact(mlflow_run, local)
