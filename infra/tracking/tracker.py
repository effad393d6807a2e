"""MLflow tracking: one run per pipeline run, a nested run per step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


def local_tracking_uri(directory: Path) -> str:
    """`sqlite:///.../mlflow.db` inside `directory`; artifacts go to `artifacts/` beside it."""
    raise NotImplementedError


class Tracker:
    """The few calls that a pipeline run needs from an MLflow server or database."""

    def __init__(self, uri: str, experiment: str) -> None:
        raise NotImplementedError

    def start_run(
        self,
        run_id: str,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The MLflow run of a pipeline run: found again by `run_id`, else adopted or created."""
        raise NotImplementedError

    def step_run(self, parent: str, step: str) -> str:
        """The nested MLflow run of a step, found again or created."""
        raise NotImplementedError

    def flush(self, outbox: Path, mlflow_run_id: str) -> int:
        """Sends what a step wrote since the last flush; returns the number of lines. Never raises for an outage."""
        raise NotImplementedError

    def finish(
        self, mlflow_run_id: str, status: RunStatus = "FINISHED", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Logs last metrics and ends the run."""
        raise NotImplementedError

    def log_dataset(
        self, mlflow_run_id: str, name: str, digest: str, source_uri: str, context: str = "training"
    ) -> None:
        """Names the dataset that a run used, without loading it."""
        raise NotImplementedError

    def log_artifact(self, mlflow_run_id: str, path: Path, directory: str = "") -> None:
        """Copies a local file to the run's artifacts."""
        raise NotImplementedError

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        raise NotImplementedError

    def link(self, mlflow_run_id: str) -> str:
        """Where a person sees the run: a URL, or for a database the command that opens it."""
        raise NotImplementedError
