"""Reads captions: a catalogue for the whole source, or a text file beside a video."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

from zoetrope.components.ingest.listing import CATALOGUES, printable
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store.content import table_of

Caption = dict[str, Any]
"""{start, end, text, attributes, source}: start and end are seconds as `"n/d"`, or None for the whole file."""

MAX_SIDECAR_BYTES = 100_000
HOW_TO_CAPTION = (
    "give a catalogue.csv, catalogue.parquet or catalogue.jsonl with the columns path,text[,start,end,attributes] "
    "(start and end in seconds), or a text file NAME.txt beside each video NAME.mp4"
)


def read_catalogue(read: Callable[[str], bytes | None], source: str) -> dict[str, list[Caption]]:
    """Captions by path from the first catalogue that exists, in the order of its rows.

    Args:
        read: the bytes of a file of the source, None where there is no such file.
        source: what the captions' `source` field says: `catalogue` or `sample`.
    """
    for name in CATALOGUES:
        data = read(name)
        if data is None:
            continue
        captions: dict[str, list[Caption]] = {}
        for number, row in enumerate(_rows(name, data), 1):
            path, caption = _caption(name, number, row, source)
            captions.setdefault(path, []).append(caption)
        return captions
    return {}


def read_sidecar(read: Callable[[str], bytes | None], key: str) -> list[Caption]:
    """The caption in `NAME.txt` beside `NAME.mp4`; white space becomes single spaces."""
    data = read(str(PurePosixPath(key).with_suffix(".txt")))
    if data is None:
        return []
    text = " ".join(data[:MAX_SIDECAR_BYTES].decode("utf-8", "replace").split())
    return [{"start": None, "end": None, "text": text, "attributes": {}, "source": "sidecar"}] if text else []


def _rows(name: str, data: bytes) -> Iterable[dict[str, Any]]:
    """Rows of a catalogue as dictionaries; raises ZoetropeError where it cannot be read."""
    try:
        if name.endswith(".parquet"):
            rows: list[dict[str, Any]] = table_of(data).to_pylist()
        elif name.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        else:
            rows = [json.loads(line) for line in data.decode("utf-8").splitlines() if line.strip()]
    except (ValueError, OSError, csv.Error) as error:
        raise ZoetropeError(f"{name} cannot be read: {error}", HOW_TO_CAPTION) from error
    missing = {"path", "text"} - set(rows[0] if rows and isinstance(rows[0], dict) else ())
    if missing:
        raise ZoetropeError(f"{name} lacks the column {' and '.join(sorted(missing))}", HOW_TO_CAPTION)
    return rows


def _caption(name: str, number: int, row: dict[str, Any], source: str) -> tuple[str, Caption]:
    """(path, caption) of one row; raises ZoetropeError naming the row."""
    place = f"{name}, row {number}"
    if not isinstance(row, dict) or not isinstance(row.get("path"), str) or not isinstance(row.get("text"), str):
        raise ZoetropeError(f"{place}: path and text must be text", HOW_TO_CAPTION)
    start, end = (_seconds(row.get(column), f"{place}, {column}") for column in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise ZoetropeError(f"{place}: start {start} is not before end {end}", "give both in seconds")
    caption = {
        "start": None if start is None else f"{start.numerator}/{start.denominator}",
        "end": None if end is None else f"{end.numerator}/{end.denominator}",
        "text": " ".join(row["text"].split()),
        "attributes": _attributes(row.get("attributes"), f"{place}, attributes"),
        "source": source,
    }
    return str(PurePosixPath(row["path"])), caption


def _seconds(value: Any, place: str) -> Fraction | None:
    """Exact seconds of `1.5`, `"1.5"` or `"3/2"`; None for nothing."""
    if _absent(value):
        return None
    try:
        seconds = Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise ZoetropeError(
            f"{place}: {printable(str(value))!r} is not a number of seconds", "write 1.5 or 3/2"
        ) from error
    if seconds < 0:
        raise ZoetropeError(
            f"{place}: {seconds} is before the beginning", "give seconds from the beginning of the file"
        )
    return seconds


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _attributes(value: Any, place: str) -> dict[str, str]:
    if _absent(value):
        return {}
    try:
        parsed = dict(json.loads(value) if isinstance(value, str) else value)
    except (ValueError, TypeError) as error:
        raise ZoetropeError(f"{place}: not a JSON object", 'write {"color": "red"} or leave it empty') from error
    return {str(key): str(item) for key, item in sorted(parsed.items()) if item is not None}
