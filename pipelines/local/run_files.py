"""The runs of a state directory: one folder each, with what was planned and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoetrope.infra.runs import RunRecord, read_run_record
from zoetrope.infra.store.local import write_whole
from zoetrope.pipelines.local.plan import LocalRunPlan, StatePaths


@dataclass(frozen=True)
class LocalRun:
    """One run of this machine.

    Attributes:
        plan: what was planned.
        record: what came of it; None for a run that goes on, or whose driver was killed.
    """

    plan: LocalRunPlan
    record: RunRecord | None


def local_runs(paths: StatePaths) -> Iterator[LocalRun]:
    """All runs of a state directory, oldest first, of this and of earlier versions of zoetrope.

    Raises:
        ZoetropeError: a record cannot be read; names its file.
    """
    for path in sorted(paths.runs.glob("*/plan.json"), key=lambda path: path.stat().st_mtime):
        yield LocalRun(LocalRunPlan.load(path), read_local_record(path.parent))


def read_local_record(directory: Path) -> RunRecord | None:
    """The record of a run by its folder, None where there is none yet."""
    path = directory / "record.json"
    return read_run_record(json.loads(path.read_text(encoding="utf-8")), str(path)) if path.is_file() else None


def write_local_record(directory: Path, record: RunRecord) -> None:
    """Writes the record of a run into its folder, whole or not at all."""
    write_whole(directory / "record.json", json.dumps(record.as_json(), indent=1).encode())
