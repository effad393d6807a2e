"""The artifact store as the place of checkpoints: waits while it is away, and says so."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from tenacity import RetryCallState, retry_if_exception

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.retry import RetryPolicy, reason_of
from zoetrope.infra.store import Store
from zoetrope.model.training.checkpoints.store import StoreError, UnreadableError

Result = TypeVar("Result")
warn_in_log: Callable[[str], None] = logging.getLogger(__name__).warning

PATIENCE = RetryPolicy(seconds=60.0)
"""Of one call; a save that takes longer is given up until the next one."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ArtifactCheckpointStore:
    """A `CheckpointStore` in the project's artifact store, on S3 or in a folder.

    Args:
        store: where.
        warn: told at the first try of a call that has to be repeated.
        patience: how long one call is repeated after a fault that passes. A full disk is none.
    """

    def __init__(
        self, store: Store, warn: Callable[[str], None] = warn_in_log, patience: RetryPolicy = PATIENCE
    ) -> None:
        self._store, self._warn, self._patience = store, warn, patience

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes an object."""
        self._call(f"writing {key}", lambda: self._store.put_bytes(key, data))  # type: ignore[arg-type]

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range."""

        def read() -> bytes | None:
            try:
                return self._store.read(key, start, length)
            except ZoetropeError:
                if self._store.exists(key):
                    raise
                return None
            except ConnectionError:
                raise
            except OSError as error:  # of the disk below this object
                raise UnreadableError(f"{key}: {error.strerror}") from error

        data = self._call(f"reading {key}", read)
        if data is None:
            raise UnreadableError(f"{key} is not in the store")
        return data

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Lists objects."""
        found = self._call(f"listing {prefix}", lambda: list(self._store.objects(f"{prefix}/")))
        return {each.key: each.bytes for each in found}

    def delete(self, key: str) -> None:
        """Removes an object."""
        self._call(f"removing {key}", lambda: self._store.delete(key))

    def _call(self, what: str, call: Callable[[], Result]) -> Result:
        def say(state: RetryCallState) -> None:
            if state.attempt_number == 1:
                self._warn(f"{what}: the store is away ({reason_of(state).splitlines()[0]}); trying again")

        try:
            return self._patience.retrying(retry_if_exception(_passes), say)(call)  # type: ignore[no-any-return]
        except ZoetropeError as error:
            raise StoreError(error.headline) from error
        except OSError as error:
            raise StoreError(f"{what}: {error}") from error


def _passes(error: BaseException) -> bool:
    cause = error.__cause__
    full = any(isinstance(each, OSError) and each.errno in _FULL for each in (error, cause))
    return not full and (isinstance(error, ConnectionError) or (isinstance(error, ZoetropeError) and error.retryable))
