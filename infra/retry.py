"""Trying again after a fault that passes, by number of tries or by time, with a word about each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_base,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    wait_exponential_jitter,
)

from zoetrope.infra.redact import redacted

FIRST_WAIT = 0.2
"""Seconds before the second try, and the most that chance adds to a wait, so that many clients do not come at once."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a call is repeated.

    Attributes:
        attempts: tries of one call before it counts as failed; 0 for any number.
        seconds: time after which no other try begins; 0 for any time.
        longest_wait: most seconds between two tries.
    """

    attempts: int = 0
    seconds: float | None = None
    longest_wait: float = 5.0

    def retrying(self, passes: retry_base, say: Callable[[RetryCallState], None], **more: Any) -> Any:
        """A caller: `policy.retrying(...)(function, *arguments)`; the last error goes on, unless `more` decides.

        Args:
            passes: which errors or answers ask for another try.
            say: called before each wait.
            more: further options of `tenacity.Retrying`.
        """
        limits: list[Any] = [stop_after_attempt(self.attempts)] if self.attempts else []
        limits += [stop_after_delay(self.seconds)] if self.seconds is not None else []
        if "retry_error_callback" not in more:
            more["reraise"] = True
        return Retrying(
            retry=passes,
            stop=stop_any(*limits),
            wait=wait_exponential_jitter(multiplier=FIRST_WAIT, max=self.longest_wait, jitter=FIRST_WAIT),
            before_sleep=say,
            **more,
        )


def reason_of(state: RetryCallState) -> str:
    """Why the last try is not enough, for a log: clients quote addresses, whose logins are left out."""
    if state.outcome is None:
        return "no answer"
    return redacted(str(state.outcome.exception() or f"HTTP status {state.outcome.result().status}"))
