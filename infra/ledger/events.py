"""The form of a chain: one JSON object a line, each holding the hash of the one before."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import ValidationError

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import canonical_json, digest_json
from zoetrope.infra.store import Store

EventKind = Literal["allocation", "usage", "outcome", "reserved", "settled"]
READ_ATTEMPTS = 20
FIRST_PREVIOUS = "0" * 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Event(StrictModel):
    """One link of a chain.

    Attributes:
        index: 0, 1, ... without gaps.
        time: seconds since the epoch, the writer's clock.
        kind: what happened.
        body: the facts.
        previous: hash of the event before, 64 zeros for the first.
        hash: SHA-256 over the canonical JSON of all other fields.
    """

    index: int
    time: float
    kind: EventKind
    body: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def next_after(cls, events: list[Event], kind: EventKind, body: dict[str, Any], time: float) -> Event:
        """The event that continues a chain."""
        fields = {
            "index": len(events),
            "time": float(time),
            "kind": kind,
            "body": body,
            "previous": events[-1].hash if events else FIRST_PREVIOUS,
        }
        return cls.model_validate({**fields, "hash": digest_json(fields)})


def chain_key(run_id: str, step: str, attempt: int) -> str:
    """Where a chain lies; raises ZoetropeError for names that are no file names."""
    return f"{run_folder(run_id)}{checked_name(step)}.{attempt}.jsonl"


def run_folder(run_id: str) -> str:
    """Begin of the keys of all chains of a run."""
    return f"ledger/{checked_name(run_id)}/"


def checked_name(name: str) -> str:
    """`name`, when it can be part of a key; raises ZoetropeError otherwise."""
    if not _NAME.fullmatch(name):
        raise ZoetropeError(f"ledger: {name!r} cannot name a run or a step", "use letters, digits, dots, '_' and '-'")
    return name


def write_chain(events: list[Event]) -> bytes:
    """The stored form of a chain."""
    return b"".join(canonical_json(event.model_dump()) + b"\n" for event in events)


def read_chain(data: bytes, place: str, first: EventKind = "allocation") -> list[Event]:
    """Reads a chain and checks every link; `place` (its URI) is named, with the line, when one is broken.

    Args:
        data: the stored form.
        place: URI, for the message.
        first: kind that the chain has to begin with.
    """
    events: list[Event] = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            fields = json.loads(line)
            event = Event.model_validate(fields)
        except (ValueError, ValidationError) as error:
            raise _broken(place, number, "not a ledger event") from error
        fields.pop("hash")
        if event.index != len(events) or event.previous != (events[-1].hash if events else FIRST_PREVIOUS):
            raise _broken(place, number, "does not continue the line before")
        if event.hash != digest_json(fields):
            raise _broken(place, number, "was changed after it was written")
        events.append(event)
    if not events or events[0].kind != first:
        article = "an" if first == "allocation" else "a"
        raise _broken(place, 1, f"does not begin with {article} {first}")
    return events


def read_folder(store: Store, prefix: str, pattern: re.Pattern[str]) -> dict[str, bytes]:
    """Objects below `prefix` whose key matches `pattern` wholly: key -> content.

    Writers replace a chain by a longer one under another key and then delete the shorter one; where that happens
    between listing and reading, the folder is read again, so that what is returned misses no chain.
    """
    for _ in range(READ_ATTEMPTS):
        keys = [uri.removeprefix(store.root + "/") for uri in store.list(prefix)]
        found = {key: read_if_there(store, key) for key in keys if pattern.fullmatch(key)}
        whole = {key: data for key, data in found.items() if data is not None}
        if len(whole) == len(found):
            return whole
    raise ZoetropeError(f"ledger: {store.uri(prefix)} changes while it is read", "try again", retryable=True)


def read_if_there(store: Store, key: str) -> bytes | None:
    """The object's content, or None when it was deleted since it was listed."""
    uri = store.uri(key)
    try:
        return store.read(uri)
    except ZoetropeError:
        if not store.exists(uri):
            return None
    try:
        return store.read(uri)  # a slow observer wrote it again between the two calls
    except ZoetropeError:
        if not store.exists(uri):
            return None
        raise


def _broken(place: str, number: int, reason: str) -> ZoetropeError:
    return ZoetropeError(
        f"ledger: {place}, line {number}: {reason}",
        "costs cannot be trusted until it is restored: bring the file back from a backup, or move it away",
    )
