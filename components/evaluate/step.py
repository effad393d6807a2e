"""The step `evaluate`: videos in, scores out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.components.evaluate.judge import DIRECTIONS, HUES
from zoetrope.components.evaluate.metric import MetricInputs, MetricResult
from zoetrope.components.evaluate.metrics import METRICS
from zoetrope.components.evaluate.page import scores_page
from zoetrope.components.evaluate.samples import load_samples
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, get_table, put_json, put_table

if TYPE_CHECKING:
    import pyarrow

ATTRIBUTE_ACCURACY = "attribute_accuracy"


def evaluate(config: EvaluateConfig, videos: str, context: StepContext) -> StepResult:
    """Scores the generated videos and the checkpoint that made them.

    Args:
        config: the step's configuration.
        videos: reference to a `zoetrope.videos.v1` manifest; it names its checkpoint, that its dataset.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.scores.v1`.

    Raises:
        ZoetropeError: unknown metric, unknown headline, or a headline that these videos have no score for.
    """
    names = _chosen_metrics(config)
    manifest = get_json(context.store, videos)
    checkpoint = get_json(context.store, manifest["checkpoint"])
    dataset = get_json(context.store, checkpoint["dataset"])
    context.progress("decoding videos", 0.0)
    colors, directions = _vocabulary(context.store, dataset, manifest["videos"])
    inputs = MetricInputs(
        samples=load_samples(context.store, manifest["videos"]),
        colors=colors,
        directions=directions,
        held_out_loss=_held_out_loss(config, checkpoint, dataset, context),
    )
    results: dict[str, MetricResult] = {}
    for number, name in enumerate(names):
        context.progress(name.replace("_", " "), number / len(names))
        results[name] = METRICS[name].measure(inputs)
    scores, higher_is_better = _collect(results)
    _require_finite(scores)
    headline = _headline(config, scores)
    table = put_table(context.store, _table(manifest["videos"], results))
    product = {
        "schema": "zoetrope.scores.v1",
        "scores": scores,
        "higher_is_better": higher_is_better,
        "headline": headline,
        "table": str(table),
        "videos": videos,
    }
    return StepResult(
        product=put_json(context.store, product),
        key_figure=_key_figure(scores, headline),
        metrics=scores,
        parameters={"headline": headline, "metrics": list(names)},
        artifacts={"scores": table},
        page=scores_page(scores, higher_is_better, headline),
    )


def _chosen_metrics(config: EvaluateConfig) -> tuple[str, ...]:
    unknown = sorted(set(config.metrics) - set(METRICS))
    if unknown:
        raise ZoetropeError(f"evaluate.metrics: there is no metric {unknown[0]!r}", f"choose from {', '.join(METRICS)}")
    return config.metrics or tuple(METRICS)


def _vocabulary(
    store: Store, dataset: Mapping[str, Any], videos: list[dict[str, Any]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Colour and direction words of captions and prompts, as far as the judge knows them.

    Chance is one in the number of words that the model could have learned, not of those that are asked for.
    """
    captions = get_json(store, dataset["captions"])
    texts = get_table(store, captions["table"])["attributes"].to_pylist()
    attributes = [json.loads(text) for text in texts if text]
    attributes += [video["attributes"] for video in videos]
    found = {key: {entry.get(key, "") for entry in attributes if entry} for key in ("color", "direction")}
    return (
        tuple(word for word in HUES if word in found["color"]),
        tuple(word for word in DIRECTIONS if word in found["direction"]),
    )


def _held_out_loss(
    config: EvaluateConfig, checkpoint: Mapping[str, Any], dataset: Mapping[str, Any], context: StepContext
) -> Callable[[], Mapping[str, float]] | None:
    """The measurement of the held-out loss, or None where no clip was held out."""
    from zoetrope.components.evaluate.loss import held_out_buckets, held_out_loss

    buckets = held_out_buckets(context.store, dataset)
    if not buckets:
        return None
    return lambda: held_out_loss(config, checkpoint, dataset, buckets[-1], context)


def _collect(results: Mapping[str, MetricResult]) -> tuple[dict[str, float], dict[str, bool]]:
    scores = {name: value for result in results.values() for name, value in result.scores.items()}
    better = {name: METRICS[name].higher_is_better for name in results if name in scores}
    for prefix in ("", "untrained_"):
        parts = [scores.get(f"{prefix}{name}") for name in ("color_accuracy", "direction_accuracy")]
        present = [part for part in parts if part is not None]
        if len(present) == len(parts):
            scores[f"{prefix}{ATTRIBUTE_ACCURACY}"] = sum(present) / len(present)
    if ATTRIBUTE_ACCURACY in scores:
        better[ATTRIBUTE_ACCURACY] = True
    return scores, better


def _require_finite(scores: Mapping[str, float]) -> None:
    bad = sorted(name for name, value in scores.items() if not math.isfinite(value))
    if bad:
        raise ZoetropeError(
            f"evaluate: {bad[0]} is {scores[bad[0]]}: the checkpoint does not compute",
            "look at the loss curve of the last stage; train it again with a lower learning rate",
        )


def _headline(config: EvaluateConfig, scores: Mapping[str, float]) -> str:
    if config.headline and config.headline not in scores:
        raise ZoetropeError(
            f"evaluate.headline: these videos have no score {config.headline!r}",
            f"choose from {', '.join(sorted(scores))}, or leave it empty",
        )
    candidates = (
        config.headline,
        ATTRIBUTE_ACCURACY,
        "color_accuracy",
        "direction_accuracy",
        "held_out_loss",
    )
    for name in (*candidates, "motion_smoothness", *sorted(scores)):
        if name in scores:
            return name
    raise ZoetropeError("evaluate: none of the chosen metrics applies to these videos", "choose more metrics")


def _table(videos: list[dict[str, Any]], results: Mapping[str, MetricResult]) -> pyarrow.Table:
    """One row for each video: what it is and what each metric says of it."""
    import pyarrow

    columns: dict[str, list[Any]] = {
        key: [video[key] for video in videos] for key in ("video", "prompt", "seed", "condition", "model")
    }
    columns["attributes"] = [json.dumps(video["attributes"], sort_keys=True) for video in videos]
    for result in results.values():
        columns |= result.columns
    return pyarrow.table(columns)


def _key_figure(scores: Mapping[str, float], headline: str) -> str:
    if headline == ATTRIBUTE_ACCURACY:
        return f"colour {scores['color_accuracy']:.0%}, direction {scores['direction_accuracy']:.0%}"
    return f"{headline.replace('_', ' ')} {scores[headline]:.4g}"
