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
        price_sheet: name of the price sheet of the run, chosen when it was resolved; empty outside a run and on a
            cluster, where the run's plan has it.
        price_provider: whose newest price sheet a run is billed by where its recipe names none.
        resources: step -> what is allocated to it ({cpu, memory_gb, gpus, gpu_kind}).
        dataset_registry: folder of the local data registry; empty where pods must not commit (on a cluster).
        commit: code commit of the run, with `+dirty` when the tree was changed.
        run_token: carried by every process of a run, so that survivors of a killed run can be found.
        cluster: whether this process runs in a pod of a pipeline run on Kubernetes.
        namespace: of the pod, like the following.
        pod: name of the pod.
        workflow: name of the Argo Workflow that the pod belongs to.
        retry: how often Argo has tried this step again by itself; 0 in a first try, and again after a person's retry.
        placements: step -> where its job runs (`zoetrope.infra.placement.Placement`).
        image: image of this pod, with its digest.
        dataset_remote: git URL of the data registry.
        tracking_url: address of MLflow for a person's browser; empty where it is `tracking_uri`.
        kubeflow_url: address of the Kubeflow UI for a person's browser.
        budget_usd: the most that the run may cost; empty for no limit.
        fresh: whether every step is computed anew though its result is known.
    """

    model_config = SettingsConfigDict(env_prefix="ZOETROPE_", extra="ignore")

    store: str = ""
    run_id: str = ""
    run_directory: Path | None = None
    tracking_uri: str = ""
    parent_run_id: str = ""
    experiment: str = "zoetrope"
    price_sheet: str = ""
    price_provider: str = "local"
    mlflow_run_id: str = Field(default_factory=lambda: os.environ.get("MLFLOW_RUN_ID", ""))
    dataset_registry: str = ""
    commit: str = ""
    run_token: str = ""
    resources: dict[str, dict[str, Any]] = Field(default_factory=dict)
    cluster: bool = False
    namespace: str = ""
    pod: str = ""
    workflow: str = ""
    retry: int = Field(default_factory=lambda: int(os.environ.get("KFP_RETRY_INDEX") or 0))
    placements: dict[str, dict[str, Any]] = Field(default_factory=dict)
    image: str = ""
    dataset_remote: str = ""
    tracking_url: str = ""
    kubeflow_url: str = ""
    budget_usd: str = ""
    fresh: bool = False

    def environment(self) -> dict[str, str]:
        """The variables that hand these settings to a child process."""
        values = self.model_dump(exclude={"mlflow_run_id"})
        return {
            f"ZOETROPE_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in values.items()
            if value
        }


def docker_configuration() -> Path:
    """The folder in which docker keeps its logins."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def mlflow_environment() -> dict[str, str]:
    """The variables that tell a job's processes which MLflow run they belong to; nothing secret."""
    secret = ("PASSWORD", "TOKEN", "SECRET", "AWS_", "BACKEND")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("MLFLOW_") and not any(word in name for word in secret)
    }
