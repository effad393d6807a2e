"""Renders sample footage into a folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from zoetrope.components.ingest.footage.config import FootageConfig
from zoetrope.components.ingest.footage.film import (
    Encoded,
    frames_to_drop,
    reencode,
    truncate,
    write_film,
)
from zoetrope.components.ingest.footage.paint import paint_film
from zoetrope.components.ingest.footage.plan import Copy, Film, held_out_prompts, plan_footage
from zoetrope.infra.workers import map_in_processes

TRUNCATED_SHARE = 0.6


@dataclass(frozen=True)
class FootageSummary:
    """What was rendered.

    Attributes:
        files: video files written, duplicates among them.
        films: distinct films.
        shots: scenes in the distinct films.
        seconds: playing time of all files.
        bytes: size of all video files.
        defects: how many defects of each kind the truth file lists.
    """

    files: int
    films: int
    shots: int
    seconds: float
    bytes: int
    defects: dict[str, int]


@dataclass(frozen=True)
class _FilmTask:
    directory: Path
    film: Film
    size: int


@dataclass(frozen=True)
class _CopyTask:
    directory: Path
    copy: Copy
    original: dict[str, Any]


def render_footage(
    directory: Path,
    config: FootageConfig,
    progress: Callable[[str, float], None] | None = None,
    *,
    workers: int = 1,
) -> FootageSummary:
    """Renders sample footage: H.264 films, captions, and the truth about them.

    Beside the films it writes `catalogue.parquet` (captions in the form that ingest reads), `truth.json` (per file:
    shots with exact start and end, attributes, defects) and `prompts.json` (prompts for the held-out pairs).

    Args:
        directory: is created; files of the same names are replaced.
        config: what to render; the same configuration gives the same pictures.
        progress: is called with a message and the share that is done, 0 to 1.
        workers: processes that render; the files are the same for any number.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plan = plan_footage(config)
    films = [_FilmTask(directory, film, config.size) for film in plan.films]
    total = len(plan.films) + len(plan.copies)
    entries: list[dict[str, Any]] = []
    for entry in map_in_processes(_render_film, films, workers):
        entries.append(entry)
        if progress is not None:
            progress(f"rendered {entry['path']}", len(entries) / total)
    by_name = {entry["path"]: entry for entry in entries}
    copies = [_CopyTask(directory, copy, by_name[copy.film]) for copy in plan.copies]
    entries += map_in_processes(_render_copy, copies, workers)
    if progress is not None:
        progress("rendered all films", 1.0)
    truth = {
        "schema": "zoetrope.footage.v1",
        "config": config.model_dump(),
        "held_out": [list(pair) for pair in plan.held_out],
        "files": entries,
    }
    _write_json(directory / "truth.json", truth)
    _write_json(directory / "prompts.json", held_out_prompts(config))
    _write_catalogue(directory / "catalogue.parquet", entries)
    defects = Counter(entry["defect"] for entry in entries)
    defects.update(shot["defect"] for entry in entries[: len(plan.films)] for shot in entry["shots"])
    return FootageSummary(
        files=total,
        films=len(plan.films),
        shots=sum(len(film.scenes) for film in plan.films),
        seconds=float(sum(Fraction(entry["shots"][-1]["end"]) for entry in entries)),
        bytes=sum((directory / entry["path"]).stat().st_size for entry in entries),
        defects={name: count for name, count in sorted(defects.items()) if name},
    )


def _render_film(task: _FilmTask) -> dict[str, Any]:
    """Writes one film and returns its entry in the truth file."""
    film, size = task.film, task.size
    path = task.directory / film.name
    count = film.scenes[-1].end
    dropped: list[int] = []
    if film.defect == "variable_frame_rate":
        # A cut is a cut only where both of its frames are shown.
        kept = {frame for scene in film.scenes for frame in (scene.start, scene.end - 1)}
        dropped = frames_to_drop(count, kept, film.seed)
    # Half of the truncated films lose their index with their end, the others only pictures.
    index_first = film.defect == "truncated" and film.seed % 2 == 0
    encoded = write_film(
        path,
        paint_film(film, size),
        film.fps,
        size,
        quality="low_bits" if film.defect == "low_bits" else "good",
        dropped=dropped,
        index_first=index_first,
    )
    if film.defect == "truncated":
        truncate(path, TRUNCATED_SHARE)
    return {
        "path": film.name,
        "fps": film.fps,
        "defect": film.defect,
        "copy_of": "",
        "shots": _shots(film, encoded),
        **_clock(encoded),
    }


def _clock(encoded: Encoded) -> dict[str, Any]:
    return {"time_base": _rational(encoded.time_base), "frames": len(encoded.pts)}


def _shots(film: Film, encoded: Encoded) -> list[dict[str, Any]]:
    """Truth of the scenes: where each is alone in the picture, exact in seconds and in PTS."""
    shots = []
    for scene in film.scenes:
        start, end = Fraction(scene.start, film.fps), Fraction(scene.end, film.fps)
        shots.append(
            {
                "start": _rational(start),
                "end": _rational(end),
                "start_pts": int(start / encoded.time_base),
                "end_pts": int(end / encoded.time_base),
                "transition": "dissolve" if scene.lead_in else "cut",
                "caption": scene.caption,
                "attributes": scene.attributes,
                "texture": scene.texture,
                "defect": scene.defect,
            }
        )
    return shots


def _render_copy(task: _CopyTask) -> dict[str, Any]:
    """Writes a duplicate and returns its entry in the truth file."""
    copy = task.copy
    source, target = task.directory / copy.film, task.directory / copy.name
    if copy.defect == "duplicate":
        shutil.copyfile(source, target)
        clock = {}
    else:
        clock = _clock(reencode(source, target))
    return {**task.original, "path": copy.name, "defect": copy.defect, "copy_of": copy.film, **clock}


def _rational(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _write_catalogue(path: Path, entries: list[dict[str, Any]]) -> None:
    """One row a shot: path, text, start, end (seconds as rationals), attributes (JSON)."""
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "path": entry["path"],
            "text": shot["caption"],
            "start": shot["start"],
            "end": shot["end"],
            "attributes": json.dumps(shot["attributes"], sort_keys=True),
        }
        for entry in entries
        for shot in entry["shots"]
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, store_schema=False)
