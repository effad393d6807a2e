"""What a local run knows beside its records: the dataset version and its own MLflow run."""

from __future__ import annotations

from pathlib import Path

from zoetrope.components.report.config import ReportConfig
from zoetrope.infra.context import StepContext
from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import get_json

DATASET = "zoetrope.dataset.v1"


def with_facts(config: ReportConfig, records: dict[str, str], context: StepContext) -> ReportConfig:
    """`config` with tag and revision of the run's dataset version.

    Args:
        config: as resolved before the run.
        records: step -> reference of its record.
        context: the outside world.

    Adopting is idempotent, so it does not matter whether the run has already done it beside the pipeline. Without a
    local registry (on a cluster, where pods never commit) nothing is added.
    """
    registry = Settings().dataset_registry
    manifest = _dataset(records, context)
    if not registry or not manifest:
        return config
    version = DatasetRegistry(Path(registry), context.store).adopt(manifest, context.run_id)
    return config.model_copy(update={"dataset_tag": version.tag, "dataset_revision": version.revision})


def _dataset(records: dict[str, str], context: StepContext) -> str:
    """Reference of the dataset manifest that the run made or trained on."""
    known = [get_json(context.store, reference) for _, reference in sorted(records.items())]
    made = [each["product"] for each in known if _is_dataset(each["product"], context)]
    read = [each["inputs"]["dataset"] for each in known if "dataset" in each["inputs"]]
    return str([*made, *read, ""][0])


def _is_dataset(product: str, context: StepContext) -> bool:
    return bool(product) and get_json(context.store, product).get("schema") == DATASET
