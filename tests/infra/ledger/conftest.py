"""A store in memory, and writers that take turns at it in a drawn order."""

from __future__ import annotations

import threading

import pytest

from zoetrope.infra.errors import ZoetropeError


class MemoryStore:
    root = "memory://store"

    def __init__(self):
        self.objects = {}

    def uri(self, key):
        return f"{self.root}/{key}"

    def put_bytes(self, key, data):
        self.objects[key] = data
        return self.uri(key)

    def read(self, uri, start=0, length=None):
        try:
            return self.objects[uri.removeprefix(self.root + "/")]
        except KeyError:
            raise ZoetropeError(f"{uri}: not in the store") from None

    def exists(self, uri):
        return uri.removeprefix(self.root + "/") in self.objects

    def list(self, prefix):
        return iter(sorted(self.uri(key) for key in self.objects if key.startswith(prefix)))

    def delete(self, uri):
        self.objects.pop(uri.removeprefix(self.root + "/"), None)


class Killed(BaseException):
    """The process ends here, without a word."""


class TurnStore:
    """Waits for its turn before each operation; after `lives` operations the process that uses it is killed."""

    def __init__(self, inner, lives=None):
        self.inner, self.root, self.lives = inner, inner.root, lives
        self.go, self.there = threading.Semaphore(0), threading.Semaphore(0)

    def uri(self, key):
        return self.inner.uri(key)

    def _turn(self):
        self.there.release()
        self.go.acquire()
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise Killed

    def put_bytes(self, key, data):
        self._turn()
        return self.inner.put_bytes(key, data)

    def read(self, uri, start=0, length=None):
        self._turn()
        return self.inner.read(uri, start, length)

    def exists(self, uri):
        self._turn()
        return self.inner.exists(uri)

    def list(self, prefix):
        self._turn()
        return self.inner.list(prefix)

    def delete(self, uri):
        self._turn()
        self.inner.delete(uri)


def run_interleaved(inner, works, order, lives=None):
    """Runs works (each takes a store) one store operation at a time; returns results or ZoetropeErrors.

    `order` decides who is next, over and over; `lives` (work -> operations) kills some.
    """
    stores = [TurnStore(inner, (lives or {}).get(number)) for number in range(len(works))]
    results = [None] * len(works)
    alive = set(range(len(works)))

    def run(number):
        try:
            results[number] = works[number](stores[number])
        except ZoetropeError as error:
            results[number] = error
        except Killed:
            results[number] = Killed
        finally:
            alive.discard(number)
            stores[number].there.release()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(works))]
    for number, thread in enumerate(threads):
        thread.start()
        stores[number].there.acquire()
    step = 0
    while alive:
        waiting = sorted(alive)
        number = waiting[order[step % len(order)] % len(waiting)]
        step += 1
        stores[number].go.release()
        stores[number].there.acquire()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def memory():
    return MemoryStore


@pytest.fixture
def interleaved():
    return run_interleaved
