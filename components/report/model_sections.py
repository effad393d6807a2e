"""What the report says about the model: training curves, samples and scores."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoetrope.components.report.curves import Curve, draw
from zoetrope.components.report.records import StepRecord, by_step, last_of
from zoetrope.infra.store import Store, get_bytes, get_json, get_table

TEXT_TO_VIDEO = "t2v"
VIDEOS = "zoetrope.videos.v1"
MAIN_METRIC = "loss"


@dataclass(frozen=True)
class Training:
    """One training step: its curves, the loss first."""

    title: str
    reused: bool
    key_figure: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Judged:
    """One attribute of a sample: what was asked for, what was seen, and whether that is right."""

    attribute: str
    asked: str
    seen: str
    right: bool


@dataclass(frozen=True)
class Clip:
    """One playing sample: an MP4 as a data URI and the verdict on it."""

    source: str
    model: str
    seed: int
    judgements: tuple[Judged, ...]


@dataclass(frozen=True)
class SamplePair:
    """The samples of one prompt and seed, by the trained and, where there is one, the untrained model."""

    prompt: str
    condition: str
    trained: Clip
    untrained: Clip | None


@dataclass(frozen=True)
class Score:
    """One row of the table of scores."""

    name: str
    trained: float
    untrained: float | None
    chance: float | None
    p_value: float | None
    untrained_p_value: float | None
    count: int | None
    higher_is_better: bool
    headline: bool


def trainings(store: Store, records: Sequence[StepRecord]) -> tuple[Training, ...]:
    """The curves of all steps that trained something."""
    result = []
    for record in records:
        reference = record.mapping("artifacts").get("curve")
        if not reference:
            continue
        series: dict[str, Any] = get_json(store, reference)
        drawn = [draw(metric, series[metric]) for metric in sorted(series, key=lambda m: (m != MAIN_METRIC, m))]
        curves = tuple(curve for curve in drawn if curve is not None)
        if curves:
            result.append(Training(record.title, record.reused, str(record.data.get("key_figure", "")), curves))
    return tuple(result)


def samples(
    store: Store, records: Sequence[StepRecord], pairs: int, maximum_bytes: int
) -> tuple[tuple[SamplePair, ...], int, int]:
    """The first samples of the run, not the best ones.

    Args:
        store: where the videos lie.
        records: the run's records.
        pairs: how many text-to-video prompts are shown; image-to-video samples come on top.
        maximum_bytes: bytes that the data URIs may take; what does not fit is left out.

    Returns:
        (pairs, number of trained samples that exist, number left out because the file would grow too large).
    """
    made = last_of(records, VIDEOS)
    videos = list(made.product.get("videos", ())) if made else []
    seen = _judgements(store, made, by_step(records).get("evaluate"))
    untrained = {_key(video): (video, row) for video, row in zip(videos, seen, strict=True) if _is_control(video)}
    trained = [(video, row) for video, row in zip(videos, seen, strict=True) if not _is_control(video)]
    chosen = [entry for entry in trained if entry[0]["condition"] == TEXT_TO_VIDEO][:pairs]
    chosen += [entry for entry in trained if entry[0]["condition"] != TEXT_TO_VIDEO]
    result: list[SamplePair] = []
    used = 0
    for number, (video, row) in enumerate(chosen):
        clip = _clip(store, video, row)
        partner = untrained.get(_key(video))
        other = _clip(store, *partner) if partner else None
        used += len(clip.source) + (len(other.source) if other else 0)
        if used > maximum_bytes:
            return tuple(result), len(trained), len(chosen) - number
        result.append(SamplePair(video["prompt"], video["condition"], clip, other))
    return tuple(result), len(trained), 0


def _is_control(video: Mapping[str, Any]) -> bool:
    return bool(video["model"] == "untrained")


def _key(video: Mapping[str, Any]) -> tuple[str, int, str]:
    return (video["prompt"], video["seed"], video["condition"])


def _judgements(store: Store, made: StepRecord | None, evaluated: StepRecord | None) -> list[dict[str, Any]]:
    """One row of `evaluate`'s table for each video, empty where it did not run on these videos."""
    if made is None:
        return []
    if evaluated is not None:
        product = evaluated.product
        if product.get("videos") == made.data.get("product") and product.get("table"):
            rows: list[dict[str, Any]] = get_table(store, product["table"]).to_pylist()
            return rows
    return [{} for _ in made.product.get("videos", ())]


def _clip(store: Store, video: Mapping[str, Any], row: Mapping[str, Any]) -> Clip:
    data = base64.b64encode(get_bytes(store, video["video"])).decode()
    judgements = tuple(
        Judged(attribute, str(asked), str(row.get(f"seen_{attribute}") or ""), bool(row[f"{attribute}_right"]))
        for attribute, asked in sorted(video["attributes"].items())
        if row.get(f"{attribute}_right") is not None
    )
    return Clip(f"data:video/mp4;base64,{data}", video["model"], int(video["seed"]), judgements)


def scores(records: Sequence[StepRecord]) -> tuple[Score, ...]:
    """The table of scores, the headline first."""
    steps = by_step(records)
    if "evaluate" not in steps:
        return ()
    product = steps["evaluate"].product
    values: dict[str, float] = product.get("scores", {})
    rows = []
    for name, better in product.get("higher_is_better", {}).items():
        if name not in values:
            continue
        attribute = name.removesuffix("_accuracy")
        count = values.get(f"{attribute}_count")
        rows.append(
            Score(
                name=name,
                trained=values[name],
                untrained=values.get(f"untrained_{name}"),
                chance=values.get(f"{attribute}_chance"),
                p_value=values.get(f"{attribute}_p_value"),
                untrained_p_value=values.get(f"untrained_{attribute}_p_value"),
                count=None if count is None else int(count),
                higher_is_better=bool(better),
                headline=name == product.get("headline"),
            )
        )
    return tuple(sorted(rows, key=lambda row: not row.headline))
