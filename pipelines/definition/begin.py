"""The beginning of a run on a cluster: the dataset version is resolved once, the plan is written down."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from zoetrope.infra.prices import choose_price_sheet
from zoetrope.infra.redact import redacted
from zoetrope.infra.runs import RunFiles, RunPlan
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.publish import publish
from zoetrope.infra.store import open_store
from zoetrope.pipelines.definition.inputs import RunInputs
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS
from zoetrope.pipelines.recipe.recipe import Recipe, recipe_digest


@dataclass(frozen=True)
class ClusterInputs:
    """What a run on a cluster is given beside the inputs of every run.

    Attributes:
        pipeline: `data`, `train`, `evaluate` or `full`.
        dataset: tag of a dataset version, `latest` or a reference; empty where the run makes one.
        images: name of an image -> reference by digest, as compiled.
        fresh: whether everything is computed anew though results are known.
    """

    pipeline: str
    dataset: str = ""
    images: dict[str, str] = field(default_factory=dict)
    fresh: bool = False

    @classmethod
    def read(cls, pipeline: str, dataset: str, images: str, fresh: bool = False) -> ClusterInputs | None:
        """From the parameters of the `resolve` task; None without images, that is, outside a cluster."""
        return cls(pipeline, dataset.strip(), json.loads(images), fresh) if images else None


def begin_cluster_run(recipe: Recipe, inputs: RunInputs, settings: Settings, run: ClusterInputs) -> str:
    """Writes the plan of the run and opens its MLflow run; returns the reference of its dataset version.

    Raises:
        ZoetropeError: there is no such dataset version.
    """
    dataset = _dataset(run.dataset, settings)
    run_files = RunFiles(open_store(settings.store), settings.run_id)
    given = {"overrides": inputs.overrides, "source": inputs.source, "dataset": run.dataset}
    given |= {"promote": str(inputs.promote).lower()}
    plan = RunPlan(
        run_id=settings.run_id,
        pipeline=run.pipeline,
        steps=PIPELINES[run.pipeline],
        headline=tuple(step for step in PIPELINES[run.pipeline] if STEPS[step].headline),
        recipe=recipe.name,
        recipe_digest=recipe_digest(recipe),
        arguments={name: redacted(value) for name, value in given.items() if value},
        dataset=dataset,
        budget_usd=str(recipe.budget_usd),
        price_sheet=choose_price_sheet(recipe.prices or settings.price_provider).name,
        commit=settings.commit,
        images=run.images,
        fresh=run.fresh,
        started=time.time(),
    )
    run_files.write_plan(plan)
    opened = publish(settings, "run", {})
    if opened:
        run_files.write_plan(plan.model_copy(update={"mlflow_run": opened["run"]}))
    return dataset.get("reference", "")


def _dataset(text: str, settings: Settings) -> dict[str, str]:
    if not text:
        return {}
    from zoetrope.infra.datasets import resolve_dataset

    version = resolve_dataset(text, settings)
    found = {"tag": version.tag, "revision": version.revision, "digest": version.digest}
    return {"reference": version.reference, **found}
