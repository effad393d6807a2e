"""Renders sample footage into a folder."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
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
class _Task:
    directory: Path
    film: Film
    copies: tuple[Copy, ...]
    size: int


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
    tasks = [_Task(directory, film, plan.copies_of(film), config.size) for film in plan.films]
    total = len(plan.films) + len(plan.copies)
    by_name: dict[str, dict[str, Any]] = {}
    for made in map_in_processes(_render, tasks, workers):
        by_name |= {entry["path"]: entry for entry in made}
        if progress is not None:
            progress(f"rendered {made[0]['path']}", len(by_name) / total)
    entries = [by_name[name] for name in plan.names]
    truth = {
        "schema": "zoetrope.footage.v1",
        "config": config.model_dump(),
        "held_out": [list(pair) for pair in plan.held_out],
        "files": entries,
    }
    _write_json(directory / "truth.json", truth)
    _write_json(directory / "prompts.json", held_out_prompts(config))
    (directory / "catalogue.parquet").write_bytes(catalogue(entries))
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


def render_film(directory: Path, film: Film, copies: Sequence[Copy], size: int) -> list[dict[str, Any]]:
    """Writes one film and its copies; depends on nothing else.

    Args:
        directory: for the files.
        film: from the plan.
        copies: of this film.
        size: width and height in pixels.

    Returns:
        The entries in the truth file, of the film and of the copies in their order.
    """
    original = _write_film(directory, film, size)
    return [original, *(_write_copy(directory, copy, original) for copy in copies)]


def _render(task: _Task) -> list[dict[str, Any]]:
    return render_film(task.directory, task.film, task.copies, task.size)


def _write_film(directory: Path, film: Film, size: int) -> dict[str, Any]:
    path = directory / film.name
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


def _write_copy(directory: Path, copy: Copy, original: dict[str, Any]) -> dict[str, Any]:
    source, target = directory / copy.film, directory / copy.name
    if copy.defect == "duplicate":
        shutil.copyfile(source, target)
        clock = {}
    else:
        clock = _clock(reencode(source, target))
    return {**original, "path": copy.name, "defect": copy.defect, "copy_of": copy.film, **clock}


def _rational(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def catalogue(entries: Sequence[dict[str, Any]]) -> bytes:
    """`catalogue.parquet` of films by their truth: path, text, start, end (seconds, rational), attributes (JSON)."""
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
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, store_schema=False)
    return buffer.getvalue()
