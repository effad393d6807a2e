"""MLflow tracking: one run per pipeline run, a nested run per step."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.redact import redacted
from zoetrope.infra.settings import Settings
from zoetrope.infra.tracking.client import ATTEMPTS, answered, database_file, experiment_of, open_client
from zoetrope.infra.tracking.outbox import OutboxBatch, mark_sent, parameters_of, safe_name, send, unsent

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
RUN_TAG = "zoetrope.run_id"
STEP_TAG = "zoetrope.step"
PARENT_TAG = "mlflow.parentRunId"
LONGEST_DIGEST = 36  # mlflow.utils.validation.MAX_DATASET_DIGEST_SIZE


def local_tracking_uri(directory: Path) -> str:
    """`sqlite:///.../mlflow.db` inside `directory`; artifacts go to `artifacts/` beside it."""
    return f"sqlite:///{directory.absolute() / 'mlflow.db'}"


class Tracker:
    """The few calls that a pipeline run needs from an MLflow server or database.

    MLflow is connected on the first call (a new database takes 5 to 8 s). All calls but `flush` raise ZoetropeError
    (retryable) while MLflow does not answer; `flush` keeps everything on disk and says so once.

    Args:
        uri: MLflow tracking URI.
        experiment: name of the experiment, made when absent.
        adopt: MLflow run that `start_run` shall use; None takes the one that MLFLOW_RUN_ID names, if any.
    """

    def __init__(self, uri: str, experiment: str, adopt: str | None = None) -> None:
        self.uri = uri
        self.experiment = experiment
        self._adopt = Settings().mlflow_run_id if adopt is None else adopt
        self._silent = False

    @cached_property
    def client(self) -> MlflowClient:
        """The connected client."""
        return open_client(self.uri)

    @cached_property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return experiment_of(self.client, self.uri, self.experiment)

    def start_run(
        self,
        run_id: str,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The MLflow run of a pipeline run: found again by `run_id`, else adopted or created.

        Args:
            run_id: the pipeline run.
            name: shown in the list of runs, e.g. the recipe's name.
            parameters: settings of the run; nested ones become dotted names.
            tags: more tags, e.g. `{"commit": ...}`.

        Returns:
            The MLflow run id.
        """
        everything = {RUN_TAG: run_id, **(tags or {})}
        found = self.find_run(run_id)
        if found is None and self._adopt:
            found = self._answered(lambda: self.client.get_run(self._adopt)).info.run_id
        if found is None:
            run = self._answered(
                lambda: self.client.create_run(self.experiment_id, run_name=name, tags=dict(everything))
            )
            found = str(run.info.run_id)
        else:
            self._resume(found, everything)
        self.log_parameters(found, parameters or {})
        return found

    def find_run(self, run_id: str) -> str | None:
        """The MLflow run of a pipeline run, None when it has none."""
        return self._search({RUN_TAG: run_id}, top=True)

    def step_run(self, parent: str, step: str) -> str:
        """The nested MLflow run of a step, found again or created."""
        tags = {STEP_TAG: step, PARENT_TAG: parent}
        found = self._search(tags)
        if found is not None:
            self._resume(found, {})
            return found
        return str(
            self._answered(lambda: self.client.create_run(self.experiment_id, run_name=step, tags=tags)).info.run_id
        )

    def log_parameters(self, mlflow_run_id: str, parameters: Mapping[str, Any]) -> None:
        """Logs nested settings; one that was logged with another value keeps the first."""
        batch = OutboxBatch(parameters=parameters_of(parameters))
        self._answered(lambda: self._send(mlflow_run_id, batch))

    def log_metrics(self, mlflow_run_id: str, values: Mapping[str, float], index: int = 0) -> None:
        """Logs numbers, in plain calls without an outbox."""
        for name, value in values.items():
            self._answered(
                lambda name=name, value=value: self.client.log_metric(  # type: ignore[misc]
                    mlflow_run_id, safe_name(name), float(value), step=index, synchronous=True
                )
            )

    def flush(self, outbox: Path, mlflow_run_id: str) -> int:
        """Sends what a step wrote since the last flush and returns the number of lines sent.

        Never raises because of MLflow: the lines stay in the outbox, a warning is logged once, and a later flush
        sends them. How far it came is kept in `OUTBOX.sent`.
        """
        sent = 0
        try:
            for batch in unsent(outbox):
                answered(self.uri, lambda: self._send(mlflow_run_id, batch), 1 if self._silent else ATTEMPTS)  # noqa: B023
                mark_sent(outbox, batch)
                sent += batch.lines
        except ZoetropeError as error:
            if not self._silent:
                log.warning("%s; metrics are kept in %s and sent later", error.headline, outbox)
            self._silent = True
            return sent
        if self._silent and sent:
            log.info("MLflow at %s answers again", redacted(self.uri))
            self._silent = False
        return sent

    def finish(
        self, mlflow_run_id: str, status: RunStatus = "FINISHED", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Logs last metrics and ends the run."""
        self.log_metrics(mlflow_run_id, metrics or {})
        self._answered(lambda: self.client.set_terminated(mlflow_run_id, status=status))

    def log_dataset(
        self, mlflow_run_id: str, name: str, digest: str, source_uri: str, context: str = "training"
    ) -> None:
        """Names the dataset that a run used, without loading it; the same one is logged once.

        MLflow cuts digests at 36 characters; the whole one is the tag `dataset_digest` of the run.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:LONGEST_DIGEST],
            source_type="s3" if source_uri.startswith("s3://") else "local",
            source=json.dumps({"uri": source_uri}),
        )
        entry = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self._answered(lambda: self.client.log_inputs(mlflow_run_id, datasets=[entry]))
        self.set_tags(mlflow_run_id, {"dataset_digest": digest})

    def log_artifact(self, mlflow_run_id: str, path: Path, directory: str = "") -> None:
        """Copies a local file to the run's artifacts."""
        self._answered(lambda: self.client.log_artifact(mlflow_run_id, str(path), directory or None))

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        for name, value in tags.items():
            self._answered(lambda name=name, value=value: self.client.set_tag(mlflow_run_id, name, value))  # type: ignore[misc]

    def link(self, mlflow_run_id: str) -> str:
        """Where a person sees the run: a URL, or for a database the command that serves it."""
        if database_file(self.uri) is not None:
            return f"mlflow ui --backend-store-uri {redacted(self.uri)}  (run {mlflow_run_id})"
        return f"{redacted(self.uri).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{mlflow_run_id}"

    def _resume(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        self._answered(lambda: self.client.update_run(mlflow_run_id, status="RUNNING"))
        self.set_tags(mlflow_run_id, tags)

    def _search(self, tags: Mapping[str, str], *, top: bool = False) -> str | None:
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = self._answered(lambda: self.client.search_runs([self.experiment_id], query, order_by=["start_time ASC"]))
        runs = [run for run in runs if not top or PARENT_TAG not in run.data.tags]
        return str(runs[0].info.run_id) if runs else None

    def _send(self, mlflow_run_id: str, batch: OutboxBatch) -> None:
        send(
            batch,
            lambda metrics, parameters: self.client.log_batch(
                mlflow_run_id, metrics=metrics, params=parameters, synchronous=True
            ),
        )

    def _answered(self, call: Callable[[], Result]) -> Result:
        return answered(self.uri, call)
