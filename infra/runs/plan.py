"""What `resolve` decided once, at the beginning of a run."""

from __future__ import annotations

from pydantic import Field

from zoetrope.infra.config import StrictModel


class RunPlan(StrictModel):
    """One pipeline run on a cluster.

    Attributes:
        run_id: the pipeline run.
        pipeline: `data`, `train`, `evaluate` or `full`.
        steps: of the pipeline, in order.
        headline: those of them whose metrics are also those of the run.
        recipe: name of the recipe.
        recipe_digest: SHA-256 of the resolved recipe.
        arguments: inputs of the pipeline, as they were given.
        dataset: {reference, tag, revision, digest} of the dataset version that the run starts from; empty where it
            makes one.
        budget_usd: the most that the run may cost.
        price_sheet: name of the price sheet, chosen when the run was resolved; every later reader takes this one.
        commit: of the code, as the pipeline was compiled.
        images: image -> digest.
        started: seconds since the epoch.
        fresh: whether everything is computed anew though results are known.
        mlflow_run: MLflow's run; empty where MLflow did not answer.
    """

    run_id: str
    pipeline: str
    steps: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()
    recipe: str
    recipe_digest: str
    arguments: dict[str, str] = Field(default_factory=dict)
    dataset: dict[str, str] = Field(default_factory=dict)
    budget_usd: str = ""
    price_sheet: str = ""
    commit: str = ""
    images: dict[str, str] = Field(default_factory=dict)
    started: float = 0.0
    fresh: bool = False
    mlflow_run: str = ""
