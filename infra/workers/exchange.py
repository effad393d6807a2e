"""What a fan-out leaves in the store: units for each replica, one result a unit, and why a unit failed.

    fanout/KEY/units/REPLICAS/INDEX.jsonl    {"unit": number, "value": ...} of one replica
    fanout/KEY/results/NUMBER.json
    fanout/KEY/failures/NUMBER.json          {"headline", "hint", "retryable"}

All of it may be removed once the step is done: products do not name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store

READERS = 16
AT_ONCE = 1024


class Exchange:
    """One fan-out.

    Args:
        store: where it lies.
        key: digest of the function, the code and all units: other work is never mistaken for this.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._root = f"fanout/{key}"

    def write_units(self, units: Sequence[str], replicas: int) -> None:
        """Unit `i` goes to replica `i % replicas`."""
        for index in range(replicas):
            mine = range(index, len(units), replicas)
            lines = (f'{{"unit":{number},"value":{units[number]}}}\n' for number in mine)
            self._store.put_bytes(self._units(replicas, index), "".join(lines).encode())

    def units(self, replicas: int, index: int) -> list[tuple[int, str]]:
        """(number, unit) of one replica, in order."""
        lines = self._store.read(self._store.uri(self._units(replicas, index))).decode().splitlines()
        found = (json.loads(line) for line in lines)
        return [(int(each["unit"]), json.dumps(each["value"])) for each in found]

    def done(self) -> set[int]:
        """Numbers of the units that have a result."""
        return {_number(uri) for uri in self._store.list(f"{self._root}/results/")}

    def has_result(self, number: int) -> bool:
        """Whether a unit has a result."""
        return self._store.exists(self._store.uri(self._result(number)))

    def put_result(self, number: int, result: str) -> None:
        """Notes the result of a unit."""
        self._store.put_bytes(self._result(number), result.encode())

    def results(self, count: int) -> Iterator[str]:
        """The results of units 0 to `count - 1`, in order."""
        with ThreadPoolExecutor(READERS, "results") as pool:
            for start in range(0, count, AT_ONCE):
                yield from pool.map(self._read, range(start, min(start + AT_ONCE, count)))

    def put_failure(self, number: int, error: ZoetropeError) -> None:
        """Notes why a unit failed, for the step to say."""
        value = {"headline": error.headline, "hint": error.hint, "retryable": error.retryable}
        self._store.put_bytes(self._failure(number), json.dumps(value).encode())

    def failure(self) -> ZoetropeError | None:
        """Why a unit failed: of several the first; None where nobody said so."""
        for uri in self._store.list(f"{self._root}/failures/"):
            value = json.loads(self._store.read(uri))
            return ZoetropeError(value["headline"], value["hint"], retryable=value["retryable"])
        return None

    def clear_failures(self) -> None:
        """Forgets what an attempt before said."""
        for uri in list(self._store.list(f"{self._root}/failures/")):
            self._store.delete(uri)

    def _read(self, number: int) -> str:
        return self._store.read(self._store.uri(self._result(number))).decode()

    def _units(self, replicas: int, index: int) -> str:
        return f"{self._root}/units/{replicas}/{index:06d}.jsonl"

    def _result(self, number: int) -> str:
        return f"{self._root}/results/{number:09d}.json"

    def _failure(self, number: int) -> str:
        return f"{self._root}/failures/{number:09d}.json"


def _number(uri: str) -> int:
    return int(uri.rpartition("/")[2].removesuffix(".json"))
