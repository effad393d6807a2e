"""Functions for test_units.py, in a module of their own so that other processes can import them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from fractions import Fraction

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import put_content
from zoetrope.infra.workers import WorkerContext


@dataclass(frozen=True)
class Number:
    value: int
    share: Fraction = Fraction(1, 3)


@dataclass(frozen=True)
class Answer:
    square: int
    odd: float
    text: str
    share: Fraction


def square(number: Number, worker_context: WorkerContext) -> Answer:
    """The square, and a note in the store; a worker whose environment says so is killed at its number."""
    if os.environ.get("KILLED_AT") == str(number.value):
        os.kill(os.getpid(), signal.SIGKILL)
    text = str(put_content(worker_context.store, str(number.value).encode(), ".txt"))
    return Answer(number.value**2, float("nan") if number.value == 5 else number.value / 3, text, number.share)


def refuse(number: Number, worker_context: WorkerContext) -> Answer:
    """Takes no seven."""
    if number.value == 7:
        raise ZoetropeError("seven is not taken", "leave it out")
    return square(number, worker_context)
