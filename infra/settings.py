"""The only place that reads the environment (prefix `ZOETROPE_`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where a process keeps its state and which run it belongs to.

    Attributes:
        store: root URI of the object store, `file:///...` or `s3://bucket/prefix`.
        run_id: the pipeline run that this process works for; empty outside a run.
        run_directory: local folder of the run: events, tracking outbox, logs.
        tracking_uri: MLflow tracking URI; empty means that nobody listens.
        parent_run_id: MLflow run of the pipeline run.
        price_sheet: name of the price sheet; empty means the newest valid one.
        resources: step -> what is allocated to it ({cpu, memory_gb, gpus, gpu_kind}).
        dataset_registry: folder of the local data registry; empty where pods must not commit (on a cluster).
        commit: code commit of the run, with `+dirty` when the tree was changed.
        run_token: carried by every process of a run, so that survivors of a killed run can be found.
    """

    model_config = SettingsConfigDict(env_prefix="ZOETROPE_", extra="ignore")

    store: str = ""
    run_id: str = ""
    run_directory: Path | None = None
    tracking_uri: str = ""
    parent_run_id: str = ""
    experiment: str = "zoetrope"
    price_sheet: str = ""
    mlflow_run_id: str = Field(default_factory=lambda: os.environ.get("MLFLOW_RUN_ID", ""))
    dataset_registry: str = ""
    commit: str = ""
    run_token: str = ""
    resources: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The variables that hand these settings to a child process."""
        values = self.model_dump(exclude={"mlflow_run_id"})
        return {
            f"ZOETROPE_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in values.items()
            if value
        }
