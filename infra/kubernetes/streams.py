"""Answers that go on: watches and followed logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import urllib3


class StreamBrokenError(Exception):
    """A stream ended before its end; there may be more."""


class Stop:
    """Ends streams that other threads are reading."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._open: set[urllib3.BaseHTTPResponse] = set()

    @property
    def is_set(self) -> bool:
        """Whether the streams were ended."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits until the streams are ended, `seconds` at most; True if they are."""
        return self._event.wait(seconds)

    def set(self) -> None:
        """Ends all streams, also those that wait for their next line."""
        with self._lock:
            self._event.set()
            for response in self._open:
                # An answer that is being closed has no socket any more.
                with suppress(ValueError, RuntimeError, OSError):
                    response.shutdown()

    @contextmanager
    def registered(self, response: urllib3.BaseHTTPResponse) -> Iterator[None]:
        """Lets `set` end `response` for as long as it is read."""
        with self._lock:
            self._open.add(response)
            stopped = self._event.is_set()
        try:
            if not stopped:
                yield
            else:
                raise urllib3.exceptions.ProtocolError("stopped")
        finally:
            with self._lock:
                self._open.discard(response)


def lines(response: urllib3.BaseHTTPResponse, stop: Stop) -> Iterator[bytes]:
    """Whole lines of an answer as they come, without their ends; an unfinished last line is left out.

    A log's last line always ends with a newline, since the kubelet writes it from whole records.
    """
    rest = b""
    try:
        with stop.registered(response):
            for chunk in response.stream(65536):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
    finally:
        response.close()
        response.release_conn()
