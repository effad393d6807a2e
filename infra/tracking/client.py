"""Opens MLflow's client: imported late (3 to 4 s), quiet, without telemetry, and with short timeouts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from tenacity import RetryCallState, retry_if_exception

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.redact import redacted
from zoetrope.infra.retry import RetryPolicy, reason_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# Read by mlflow when it is imported or connects. Its own defaults retry for minutes; the outbox waits better.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_PASSING_CODES = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL_ERROR")
ATTEMPTS = 3
LONGEST_WAIT = 2.0


def open_client(uri: str) -> MlflowClient:
    """A client for tracking and registry at `uri`; a database is created or brought up to date on first use.

    Raises:
        ZoetropeError: no tracking URI, or nothing answers there.
    """
    if not uri:
        raise ZoetropeError(
            "no tracking URI: there is no MLflow to talk to",
            "set ZOETROPE_TRACKING_URI, e.g. sqlite:////path/mlflow.db or http://mlflow:5000",
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    # Migrations of a new database announce themselves in two loggers, line by line.
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    database = database_file(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return answered(uri, lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))


def database_file(uri: str) -> Path | None:
    """The file of a sqlite URI, None for any other."""
    parts = urlsplit(uri)
    return Path(parts.path[1:]) if parts.scheme == "sqlite" else None


def experiment_of(client: MlflowClient, uri: str, name: str) -> str:
    """The id of an experiment, which is made when absent; local databases keep artifacts beside themselves."""

    def find() -> str:
        known = client.get_experiment_by_name(name)
        if known is not None and known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
        if known is not None:
            return str(known.experiment_id)
        database = database_file(uri)
        location = str(database.absolute().parent / "artifacts") if database is not None else None
        return str(client.create_experiment(name, artifact_location=location))

    return answered(uri, find)


def error_code(error: BaseException) -> str:
    """MLflow's code of an error; empty for other errors, and for servers that do not answer."""
    return str(getattr(error, "error_code", "") or "")


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later: nobody answers, a lock, an overload."""
    code = error_code(error)
    return isinstance(error, OSError) or code in _PASSING_CODES


def answered(uri: str, call: Callable[[], Result], attempts: int = ATTEMPTS) -> Result:
    """Calls MLflow, again after passing faults.

    Raises:
        ZoetropeError: it still does not answer (retryable), or it refuses (not retryable).
    """
    from mlflow.exceptions import MlflowException

    def say(state: RetryCallState) -> None:
        log.warning("MLflow at %s: %s; tried again", redacted(uri), reason_of(state))

    retrying = RetryPolicy(attempts=attempts, longest_wait=LONGEST_WAIT).retrying(retry_if_exception(is_passing), say)
    try:
        return retrying(call)  # type: ignore[no-any-return]
    except (MlflowException, OSError) as error:
        if is_passing(error):
            raise ZoetropeError(
                f"MLflow at {uri} does not answer: {_first_line(error)}",
                "start it or fix the tracking URI, then run the same command again",
                retryable=True,
            ) from error
        raise ZoetropeError(f"MLflow at {uri} refuses: {_first_line(error)}", "see its message") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
