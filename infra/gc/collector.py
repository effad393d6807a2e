"""One pass of garbage collection: mark what roots reach, then remove what is left and has rested.

Harmless at any moment. What is young stays, and so does all that young things name, and everything that was written
since the oldest open run began; content that is written or found again is young again (`store.content.mark_used`).
Answers (results of keys) go before the content that they name, content before the manifests that name it: whatever
is killed half-way, nothing that is left names what is gone, but garbage, which the next pass finds again. The ledger,
verdicts, runs and what DVC keeps for others are never touched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.gc.measured import sources_of
from zoetrope.infra.gc.reach import Reached, named, named_shards
from zoetrope.infra.gc.roots import ROOTS, Places, open_runs
from zoetrope.infra.references import Reference
from zoetrope.infra.store import StoredObject
from zoetrope.infra.store.access import CHECKED

DAY = 86_400.0
LEAST_BESIDE_A_RUN = 2 * DAY
"""Content that a run finds again is made young once a day, so it has to rest for longer while one is open."""
GROUPS = ("fanout/", "resume/")
"""Below these the first name is a piece of work, which is young or old as a whole."""
ANSWERS = "results/"
TRAINING = "training/"
MEASUREMENTS = "measurements/"
CONTENT = "objects/"
TEXTS = (".json", ".jsonl")


@dataclass
class Collection:
    """What a pass removed, or would remove.

    Attributes:
        removed: kind -> (number of objects, bytes).
        kept_since: what was written later stays, seconds since the epoch.
        open_runs: runs that have not ended -> when they began.
    """

    removed: dict[str, tuple[int, int]] = field(default_factory=dict)
    kept_since: float = 0.0
    open_runs: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, size: int) -> None:
        """Counts one object."""
        count, total = self.removed.get(kind, (0, 0))
        self.removed[kind] = (count + 1, total + size)

    @property
    def bytes(self) -> int:
        """Of all kinds together."""
        return sum(size for _, size in self.removed.values())


def collect_garbage(places: Places, older_than: float, *, dry_run: bool = False) -> Collection:
    """Removes what no root reaches.

    Args:
        places: of the roots.
        older_than: seconds that something has rested at least before it goes.
        dry_run: only count.

    Raises:
        ZoetropeError: a root cannot be read (nothing was removed then), or a run is open and `older_than` is less
            than two days.
    """
    return _Pass(places, older_than, dry_run).run()


class _Pass:
    def __init__(self, places: Places, older_than: float, dry_run: bool) -> None:
        self.places, self.store, self.dry_run = places, places.store, dry_run
        self.began = time.time()
        self.done = Collection(open_runs=open_runs(places))
        if self.done.open_runs and older_than < LEAST_BESIDE_A_RUN:
            raise ZoetropeError(
                f"store gc: a run is open ({', '.join(sorted(self.done.open_runs))}), beside which only what is older "
                "than 2 days may go",
                "wait until it has ended, or leave out --older-than",
            )
        self.since = min([self.began - older_than, *self.done.open_runs.values()])
        self.done.kept_since = self.since
        self.reached = Reached(self.store, places.scratch)

    def run(self) -> Collection:
        self.reached.follow(self._roots())
        self.reached.follow(self._young_texts(self.since))
        self._follow_answers()
        self._sweep_answers()
        self._sweep_kfp_cache()
        if not self.dry_run:
            # A run may have taken one of those answers since we read the roots: its events say so by now, or the
            # product that it found is young.
            self.reached.follow(self._roots())
            self.reached.follow(self._young_texts(self.began))
        self._sweep_measurements()
        for prefix in GROUPS:
            self._sweep_groups(prefix)
        self._sweep_training()
        self._sweep_content()
        return self.done

    def _roots(self) -> Iterator[bytes]:
        for texts in ROOTS.values():
            yield from texts(self.places)

    def _young_texts(self, since: float) -> Iterator[bytes]:
        """What is young stays, and all that it names."""
        for found in self.store.objects(CONTENT):
            if found.modified >= since:
                digest = _digest(found.key)
                yield f"{found.key}@sha256:{digest}".encode() if digest else b""
        for prefix in (ANSWERS, TRAINING):
            yield from self._texts(each for each in self.store.objects(prefix) if each.modified >= since)
        for prefix in GROUPS:
            young = {group for group, newest in self._groups(prefix).items() if newest >= since}
            yield from self._texts(each for each in self.store.objects(prefix) if _group(each.key) in young)

    def _texts(self, objects: Iterator[StoredObject]) -> Iterator[bytes]:
        for found in objects:
            if found.key.endswith(TEXTS):
                text = self._read(found.key)
                if text is not None:
                    yield text

    def _follow_answers(self) -> None:
        """What stays is still known as the result of its key, so all that the answer names stays with it."""
        waiting: dict[str, tuple[str, bytes]] = {}
        for found in self.store.objects(ANSWERS):
            text = self._read(found.key)
            product = _product(text or b"")
            if text is not None and product:
                waiting[found.key] = (product, text)
        while kept := [key for key, (product, _) in waiting.items() if product in self.reached]:
            self.reached.follow([waiting.pop(key)[1] for key in kept])

    # Sweeping, in this order

    def _sweep_answers(self) -> None:
        for found in list(self.store.objects(ANSWERS)):
            if found.modified < self.since:
                text = self._read(found.key)
                if text is not None and any(digest not in self.reached for digest, _ in named(text)):
                    self._remove("results", found)

    def _sweep_kfp_cache(self) -> None:
        """The answers of KFP's cache on this machine."""
        for path in sorted((self.places.state / "kfp-cache").glob("*.json")):
            status = path.stat()
            if status.st_mtime >= self.since:
                continue
            if any(digest not in self.reached for digest, _ in named(path.read_bytes())):
                self.done.add("answers of KFP's cache", status.st_size)
                if not self.dry_run:
                    path.unlink(missing_ok=True)

    def _sweep_measurements(self) -> None:
        """Parts of whose sources none is there any more."""
        for found in list(self.store.objects(MEASUREMENTS)):
            if found.modified < self.since:
                data = self._read(found.key)
                if data is not None and not any(source in self.reached for source in sources_of(data)):
                    self._remove("measurements", found)

    def _sweep_groups(self, prefix: str) -> None:
        old = {group for group, newest in self._groups(prefix).items() if newest < self.since}
        for found in list(self.store.objects(prefix)):
            if _group(found.key) in old:
                self._remove(prefix.rstrip("/"), found)

    def _sweep_training(self) -> None:
        for found in list(self.store.objects(TRAINING)):
            if found.modified < self.since and _group(found.key) not in self.done.open_runs:
                self._remove("training", found)

    def _sweep_content(self) -> None:
        manifests = []
        for found in self.store.objects(CONTENT):
            digest = _digest(found.key)
            if not digest or digest in self.reached or found.modified >= self.since:
                continue
            if found.key.endswith(".json"):
                manifests.append(found)
            else:
                self._remove("objects", found)
        for found in manifests:
            # Shards lie where DVC looks for them, and others may use that place: only those that a manifest of ours
            # names go, and before it, so that a killed pass finds them again.
            for key in sorted(named_shards(self._read(found.key) or b"") - self.reached.shards):
                shard = self.store.stat(key)
                if shard is not None and shard.modified < self.since:
                    self._remove("shards", shard)
                    self.reached.shards.add(key)  # another manifest that goes may name it as well
            self._remove("objects", found)

    def _remove(self, kind: str, found: StoredObject) -> None:
        """Removes an object, unless it became young since it was listed."""
        if not self.dry_run:
            now = self.store.stat(found.key)
            if now is None or now.modified > found.modified:
                return
            self.store.delete(found.key)
            if self.store.local_path(found.key) is not None:
                self.store.delete(f"{CHECKED}/{found.key}.json")
        self.done.add(kind, found.bytes)

    def _groups(self, prefix: str) -> dict[str, float]:
        """Piece of work -> when something was last written for it."""
        newest: dict[str, float] = {}
        for found in self.store.objects(prefix):
            group = _group(found.key)
            newest[group] = max(found.modified, newest.get(group, 0.0))
        return newest

    def _read(self, key: str) -> bytes | None:
        """What lies there; None where it was removed meanwhile."""
        return self.store.read(key) if self.store.exists(key) else None


def _group(key: str) -> str:
    """`fanout/KEY/...` -> `KEY`."""
    return key.split("/")[1]


def _product(answer: bytes) -> str:
    """Digest of the product that an answer names; empty where it is damaged, which is no answer."""
    try:
        return Reference.parse(str(json.loads(answer)["product"])).digest
    except (ZoetropeError, ValueError, KeyError, TypeError):
        return ""


def _digest(key: str) -> str:
    """Of content by its key `objects/ab/abcd....json`; empty for what is not named like it."""
    name = Path(key).name[:64]
    return name if len(name) == 64 and all(letter in "0123456789abcdef" for letter in name) else ""
