"""The units of the step's work: some files to look at, or one film of sample footage to render and to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from zoetrope.components.ingest.config import IngestConfig
from zoetrope.components.ingest.footage.plan import Copy, Film
from zoetrope.components.ingest.footage.render import render_film
from zoetrope.components.ingest.gates import raw_gate
from zoetrope.components.ingest.listing import VIDEO_SUFFIXES, Entry
from zoetrope.components.ingest.probe import ProbeResult, probe_file
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_bytes
from zoetrope.infra.store import Store, open_store, put_file_content
from zoetrope.infra.workers import WorkerContext

FILES_PER_BATCH = 8


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: for messages.
        place: its URI; of a local file with every byte of its name, which need not be text.
        suffix: of a video, `.mp4`; empty for others.
    """

    name: str
    place: str
    suffix: str


@dataclass(frozen=True)
class FileBatch:
    """Some files to look at; with `root` they are fetched from the store there."""

    config: IngestConfig
    root: str
    files: list[SourceFile]


@dataclass(frozen=True)
class RenderTask:
    """A film of sample footage and its copies, to render and to look at."""

    config: IngestConfig
    film: Film
    copies: list[Copy]
    size: int


@dataclass(frozen=True)
class Inspection:
    """What is known of one file.

    Attributes:
        facts: of the file.
        reason: why it is rejected, as `code: sentence`; empty for a usable one.
        video: reference of its bytes in the store; empty for a rejected one.
    """

    facts: ProbeResult
    reason: str
    video: str


@dataclass(frozen=True)
class Rendered:
    """A rendered file: its entry in the truth file, and what was found when looking at it."""

    entry: dict[str, Any]
    inspection: Inspection


def file_batches(config: IngestConfig, root: str, entries: Sequence[Entry]) -> Iterator[FileBatch]:
    """Entries without a problem in batches, in their order."""
    for start in range(0, len(entries), FILES_PER_BATCH):
        yield FileBatch(config, root, [_file(entry) for entry in entries[start : start + FILES_PER_BATCH]])


def inspect_files(batch: FileBatch, worker_context: WorkerContext) -> list[Inspection]:
    """Looks at every file and stores the usable ones under the digest of their bytes."""
    found = []
    for file in batch.files:
        if not batch.root:
            path = Path(os.fsdecode(unquote_to_bytes(file.place.removeprefix("file://"))))
            found.append(_inspect(file, path, batch.config, worker_context.store))
            continue
        path = worker_context.scratch / "fetched" / digest_bytes(file.place.encode())
        open_store(batch.root).fetch(file.place, path)
        try:
            found.append(_inspect(file, path, batch.config, worker_context.store))
        finally:
            path.unlink(missing_ok=True)
    return found


def render_and_inspect(task: RenderTask, worker_context: WorkerContext) -> list[Rendered]:
    """Renders a film and its copies, and treats the files as those of any source."""
    folder = worker_context.scratch / "footage"
    folder.mkdir(parents=True, exist_ok=True)
    entries = render_film(folder, task.film, task.copies, task.size)
    found = []
    for entry in entries:
        path = folder / entry["path"]
        found.append(
            Rendered(entry, _inspect(SourceFile(path.name, "", path.suffix), path, task.config, worker_context.store))
        )
    for entry in entries:
        (folder / entry["path"]).unlink()
    return found


def _file(entry: Entry) -> SourceFile:
    place = entry.uri or "file://" + quote(os.fsencode(entry.path or ""))
    suffix = PurePosixPath(entry.key).suffix.lower()
    return SourceFile(entry.name, place, suffix if suffix in VIDEO_SUFFIXES else "")


def _inspect(file: SourceFile, path: Path, config: IngestConfig, store: Store) -> Inspection:
    facts = probe_file(path, config.verify, config.identity)
    reason = facts.problem or raw_gate(facts, config)
    if reason:
        return Inspection(facts, reason, "")
    reference = put_file_content(store, path, file.suffix)
    if reference.digest != facts.digest:
        raise ZoetropeError(
            f"{file.name} changed while it was read", "run again when nobody writes to it", retryable=True
        )
    return Inspection(facts, "", str(reference))
