"""What checkpoints need of an object store, and how long they wait for one that is away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

Result = TypeVar("Result")

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between two tries: doubled from the first to the longest."""


class StoreError(Exception):
    """The store did not do what it was asked: its disk is full, it refuses, an object is not there."""


class StoreAwayError(StoreError):
    """The store does not answer now and may later; the call is repeated."""


class CheckpointStore(Protocol):
    """A tree of immutable objects. A put is atomic: readers see all of it or nothing."""

    def put(self, key: str, data: bytes) -> None:
        """Writes an object; raises StoreError."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """A range, to the end where `length` is None; shorter where the object is; raises StoreError."""
        ...

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Key -> bytes of all objects whose key begins with `prefix`; raises StoreError."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none; raises StoreError."""
        ...


class PatientStore:
    """A store that is asked again while it is away.

    Args:
        store: the store.
        seconds: after which no other try of one call begins.
    """

    def __init__(self, store: CheckpointStore, seconds: float) -> None:
        self._store, self._seconds = store, seconds

    def put(self, key: str, data: bytes) -> None:
        """Writes an object."""
        self._again(lambda: self._store.put(key, data))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range."""
        return self._again(lambda: self._store.read(key, start, length))

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Lists objects."""
        return self._again(lambda: self._store.sizes(prefix))

    def delete(self, key: str) -> None:
        """Removes an object."""
        self._again(lambda: self._store.delete(key))

    def _again(self, call: Callable[[], Result]) -> Result:
        retrying = Retrying(
            retry=retry_if_exception_type(StoreAwayError),
            stop=stop_after_delay(self._seconds),
            wait=wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT),
            reraise=True,
        )
        return retrying(call)
