"""The one user-facing error and its exit codes.

A mistake of the user is one line with the place, the reason and the next step; a traceback is for our own bugs.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_RETRYABLE = 75  # EX_TEMPFAIL of sysexits.h


class ZoetropeError(Exception):
    """Something that a person has to know and can act on.

    Args:
        headline: one line: the place and the reason.
        hint: the next step, one line or a short list.
        retryable: True where the same call may succeed later without a change (exit 75 instead of 2).
    """

    def __init__(self, headline: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(headline)
        self.headline = headline
        self.hint = hint
        self.retryable = retryable

    @property
    def exit_code(self) -> int:
        """2 for what the user has to fix, 75 for what may pass by itself."""
        return EXIT_RETRYABLE if self.retryable else EXIT_USER_ERROR

    def __str__(self) -> str:
        return f"{self.headline}\n  -> {self.hint}" if self.hint else self.headline
