"""Settings of the step `report`."""

from __future__ import annotations

from pydantic import Field

from zoetrope.infra.config import StrictModel


class ReportStep(StrictModel):
    """A step as the report names it.

    Attributes:
        name: in records.
        title: for people.
    """

    name: str
    title: str


class ReportConfig(StrictModel):
    """Configuration of the step `report`: what only the run itself knows.

    Attributes:
        run_id: the pipeline run; a record with another run id is a reused one.
        recipe: name of the recipe.
        recipe_hash: SHA-256 of the resolved recipe.
        commit: git commit of the code; empty where it is not known.
        dirty: whether the working tree differed from `commit`; None where it is not known.
        dataset_tag: tag of the dataset version in the data registry, e.g. `nano-v3`.
        dataset_revision: git revision of that version.
        tracking_uri: MLflow tracking URI; empty when nobody listens.
        experiment: MLflow experiment.
        mlflow_run_id: MLflow run of the pipeline run.
        registry_command: command that lists the registered models.
        budget_usd: budget of the recipe; 0 means that there is none.
        steps: all steps in the order in which the report tells of them; others follow by name.
        sample_pairs: how many prompts are shown with a playing sample of the trained and the untrained model.
        maximum_megabytes: samples are left out, with a note, where the file would grow beyond this.
    """

    run_id: str = ""
    recipe: str = ""
    recipe_hash: str = ""
    commit: str = ""
    dirty: bool | None = None
    dataset_tag: str = ""
    dataset_revision: str = ""
    tracking_uri: str = ""
    experiment: str = "zoetrope"
    mlflow_run_id: str = ""
    registry_command: str = "zoetrope models list"
    budget_usd: float = Field(default=0.0, ge=0.0)
    steps: tuple[ReportStep, ...] = ()
    sample_pairs: int = Field(default=24, ge=0)
    maximum_megabytes: float = Field(default=15.0, gt=0.0)
