"""What the supervisor hands to the driver, and where the state of a run lies."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoetrope.infra.settings import Settings


@dataclass(frozen=True)
class StatePaths:
    """The folders below `--store DIR`."""

    root: Path

    @property
    def store(self) -> Path:
        """Root of the object store."""
        return self.root / "store"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def datasets(self) -> Path:
        """The data registry: git and DVC."""
        return self.root / "datasets"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.runs / run_id


@dataclass(frozen=True)
class LocalRunPlan:
    """One pipeline run.

    Attributes:
        run_id: names the run everywhere.
        pipeline: name of the pipeline.
        recipe: name of the recipe, or path of its file.
        recipe_name: the name that the recipe gives itself.
        recipe_digest: SHA-256 of the resolved recipe.
        arguments: of the KFP pipeline.
        command: what the user typed.
        started: ISO time, UTC.
        price_sheet: name of the price sheet, chosen when the run was resolved.
    """

    run_id: str
    pipeline: str
    recipe: str
    recipe_name: str
    recipe_digest: str
    arguments: dict[str, str]
    command: str
    started: str
    price_sheet: str = ""

    def save(self, directory: Path) -> Path:
        """Writes `plan.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "plan.json"
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> LocalRunPlan:
        """Reads `plan.json`."""
        known = {each.name for each in fields(cls)}
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{name: value for name, value in values.items() if name in known})


def new_run_id(recipe: str) -> str:
    """`RECIPE-YYYYMMDD-HHMMSS-xxxx`, UTC."""
    return f"{recipe.replace('_', '-')}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def code_commit() -> str:
    """Commit of the code, with `+dirty` where the tree differs; empty outside a checkout."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder)]
    head = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return ""
    status = subprocess.run(
        [*command, "status", "--porcelain", "--untracked-files=no"],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("+dirty" if status.stdout.strip() else "")


def run_settings(paths: StatePaths, run_id: str, resources: dict[str, dict[str, Any]], prices: str) -> Settings:
    """Settings of every process of a local run; its price sheet is chosen here and never again.

    Args:
        paths: folders of the state directory.
        run_id: the run.
        resources: step -> what is allocated to it.
        prices: a price sheet or a provider, as the recipe names it; empty takes the provider of the settings.
    """
    from zoetrope.infra.prices import choose_price_sheet
    from zoetrope.infra.store import open_store
    from zoetrope.infra.tracking import local_tracking_uri

    given = Settings()
    return Settings(
        store=given.store or open_store(paths.store).root,
        run_id=run_id,
        run_directory=paths.run(run_id).resolve(),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", "") or local_tracking_uri(paths.mlflow),
        dataset_registry=str(paths.datasets),
        commit=code_commit(),
        price_sheet=choose_price_sheet(prices or given.price_provider).name,
        resources=resources,
    )
