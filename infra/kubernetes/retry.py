"""Trying again while the API server is away, and saying so once per outage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import urllib3
from tenacity import retry_if_exception

from zoetrope.infra.kubernetes.errors import FORBIDDEN, PASSING_STATUS, UNAUTHORIZED, ApiRefusedError
from zoetrope.infra.retry import RetryPolicy

log = logging.getLogger(__name__)
Result = TypeVar("Result")

LONGEST_WAIT = 5.0
REMIND_SECONDS = 15.0
# An API server that has just started refuses everybody until it has read its roles.
GRACE_SECONDS = 30.0


class OutageRetry:
    """Repeats calls that failed by a fault that passes.

    Args:
        seconds: how long one call is tried before it counts as failed.
        longest_wait: most seconds between two tries.
    """

    def __init__(self, seconds: float, longest_wait: float = LONGEST_WAIT) -> None:
        self.seconds = seconds
        self.longest_wait = longest_wait
        self._lock = threading.Lock()
        self._reached = False
        self._away_since: float | None = None
        self._logged_at = 0.0

    def call(self, what: str, function: Callable[[], Result]) -> Result:
        """`function()`, again and again while it fails by a fault that passes; the last error goes on."""
        retrying = RetryPolicy(seconds=self.seconds, longest_wait=self.longest_wait).retrying(
            retry_if_exception(self._passes),
            lambda state: self._log_failure(what, state.outcome.exception() if state.outcome else None),
        )
        result: Result = retrying(function)
        self._note_success()
        return result

    def _passes(self, error: BaseException) -> bool:
        if isinstance(error, ApiRefusedError):
            if error.status in (UNAUTHORIZED, FORBIDDEN) and not error.by_webhook:
                away = self._away_since
                return self._reached and away is not None and time.monotonic() - away < GRACE_SECONDS
            if error.status not in PASSING_STATUS:
                self._note_success()
            return error.status in PASSING_STATUS
        if isinstance(error, (urllib3.exceptions.NameResolutionError, urllib3.exceptions.SSLError)):
            return self._reached  # wrong from the start, unless it worked before
        return isinstance(error, urllib3.exceptions.HTTPError)

    def _log_failure(self, what: str, error: BaseException | None) -> None:
        now = time.monotonic()
        with self._lock:
            if self._away_since is None:
                self._away_since = now
            elif now - self._logged_at < REMIND_SECONDS:
                return
            self._logged_at = now
            away = now - self._away_since
        log.warning(
            "Kubernetes API: %s: %s; away for %.0f s, tried again for up to %.0f s", what, error, away, self.seconds
        )

    def _note_success(self) -> None:
        with self._lock:
            self._reached = True
            if self._away_since is None:
                return
            away, self._away_since = time.monotonic() - self._away_since, None
        log.warning("Kubernetes API: answers again after %.0f s", away)
