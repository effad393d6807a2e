"""The one user-facing error and its exit codes.

A mistake of the user is one line with the place, the reason and the next step; a traceback is for our own bugs.
"""

from __future__ import annotations

from typing import Any

from zoetrope.infra.redact import redacted

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_RETRYABLE = 75  # EX_TEMPFAIL of sysexits.h
NOT_FOUND, CONFLICT = 404, 409


class ZoetropeError(Exception):
    """Something that a person has to know and can act on. Logins in addresses are left out of what it says.

    Args:
        headline: one line: the place and the reason.
        hint: the next step, one line or a short list.
        retryable: True where the same call may succeed later without a change (exit 75 instead of 2).
    """

    def __init__(self, headline: str, hint: str = "", *, retryable: bool = False) -> None:
        self.headline = redacted(headline)
        self.hint = redacted(hint)
        super().__init__(self.headline)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        """From process to process as it is, whatever arguments a subclass is made with."""
        return _unpickled, (type(self), self.args), dict(self.__dict__)

    @property
    def exit_code(self) -> int:
        """2 for what the user has to fix, 75 for what may pass by itself."""
        return EXIT_RETRYABLE if self.retryable else EXIT_USER_ERROR

    def __str__(self) -> str:
        return f"{self.headline}\n  -> {self.hint}" if self.hint else self.headline


def _unpickled(kind: type[ZoetropeError], arguments: tuple[Any, ...]) -> ZoetropeError:
    return kind.__new__(kind, *arguments)


def placed(place: str, headline: str) -> str:
    """A headline with the place in front: the step, where the error itself did not name it."""
    return headline if headline.startswith(f"{place}: ") else f"{place}: {headline}"


class ServiceError(ZoetropeError):
    """A service on the network refused, or did not answer.

    Args:
        headline: as of every error.
        hint: as of every error.
        status: HTTP status of the answer; 0 where there was none.
        retryable: as of every error.
    """

    def __init__(self, headline: str, hint: str = "", *, status: int = 0, retryable: bool = False) -> None:
        super().__init__(headline, hint, retryable=retryable)
        self.status = status

    @property
    def unanswered(self) -> bool:
        """Whether nobody answered; a service that starts up does so for a while."""
        return self.status == 0

    @property
    def not_found(self) -> bool:
        """Whether the service has no such thing."""
        return self.status == NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether the service has such a thing already, or somebody changed it meanwhile."""
        return self.status == CONFLICT
