from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.components.evaluate.step import evaluate
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, get_table, put_file_content, put_json
from zoetrope.model.video import write_video

Render = Callable[..., np.ndarray]
CONFIG = EvaluateConfig(loss_timesteps=4, loss_samples=2, threads=1)


def videos(store: Store, checkpoint: str, work: Path, render: Render, *, attributes: bool = True) -> str:
    entries: list[dict[str, Any]] = []
    for model in ("trained", "untrained"):
        for color, direction in (("blue", "left"), ("green", "down"), ("red", "up")):
            frames = render(color, direction if model == "trained" else "right", size=32)
            path = write_video(work / f"{model}{color}.mp4", frames, 8)
            asked = {"color": color, "direction": direction, "shape": "circle"} if attributes else {}
            entries.append(
                {
                    "video": str(put_file_content(store, path)), "prompt": f"a {color} circle moving {direction}",
                    "seed": 1, "attributes": asked, "condition": "t2v", "model": model,
                }
            )  # fmt: skip
    manifest = {"schema": "zoetrope.videos.v1", "videos": entries, "checkpoint": checkpoint}
    return str(put_json(store, manifest))


def test_scores_of_both_groups_and_a_row_for_each_video(
    checkpoint_store: tuple[Store, str], step_context: StepContext, render: Render
) -> None:
    store, checkpoint = checkpoint_store
    reference = videos(store, checkpoint, step_context.work, render)
    result = evaluate(CONFIG, reference, step_context)
    product = get_json(store, result.product)
    assert product["schema"] == "zoetrope.scores.v1"
    assert product["videos"] == reference
    assert product["headline"] == "attribute_accuracy"
    assert product["higher_is_better"]["attribute_accuracy"] is True
    assert product["higher_is_better"]["held_out_loss"] is False
    scores = product["scores"]
    assert scores["color_accuracy"] == scores["direction_accuracy"] == scores["untrained_color_accuracy"] == 1.0
    assert scores["untrained_direction_accuracy"] == 0.0
    # the captions use three colours and four directions: that is what guessing chooses from
    assert scores["color_chance"] == pytest.approx(1 / 3)
    assert scores["direction_chance"] == pytest.approx(1 / 4)
    assert scores["held_out_loss"] > 0
    assert set(product["higher_is_better"]) <= set(scores)
    table = get_table(store, product["table"]).to_pylist()
    assert [row["seen_direction"] for row in table] == ["left", "down", "up", "right", "right", "right"]
    assert result.metrics == scores
    assert "100%" in result.key_figure


def test_the_same_input_gives_the_same_product(
    checkpoint_store: tuple[Store, str], step_context: StepContext, render: Render
) -> None:
    store, checkpoint = checkpoint_store
    reference = videos(store, checkpoint, step_context.work, render)
    first = evaluate(CONFIG, reference, step_context)
    assert evaluate(CONFIG, reference, step_context).product == first.product
    other = evaluate(CONFIG.model_copy(update={"seed": 1}), reference, step_context)
    assert other.metrics["held_out_loss"] != first.metrics["held_out_loss"]


def test_the_held_out_loss_does_not_depend_on_the_batch(
    checkpoint_store: tuple[Store, str], step_context: StepContext, render: Render
) -> None:
    store, checkpoint = checkpoint_store
    config = CONFIG.model_copy(update={"metrics": ("held_out_loss",)})
    reference = videos(store, checkpoint, step_context.work, render)
    both = evaluate(config, reference, step_context).metrics["held_out_loss"]
    single = evaluate(config.model_copy(update={"batch_size": 1}), reference, step_context).metrics["held_out_loss"]
    assert single == pytest.approx(both, rel=1e-5)


def test_footage_without_attributes_is_judged_by_its_loss(
    checkpoint_store: tuple[Store, str], step_context: StepContext, render: Render
) -> None:
    store, checkpoint = checkpoint_store
    reference = videos(store, checkpoint, step_context.work, render, attributes=False)
    product = get_json(store, evaluate(CONFIG, reference, step_context).product)
    assert product["headline"] == "held_out_loss"
    assert not [name for name in product["scores"] if "color" in name or "direction" in name]


def test_unknown_names_are_refused_with_those_that_exist(
    checkpoint_store: tuple[Store, str], step_context: StepContext, render: Render
) -> None:
    store, checkpoint = checkpoint_store
    reference = videos(store, checkpoint, step_context.work, render)
    with pytest.raises(ZoetropeError, match="no metric 'beauty'"):
        evaluate(EvaluateConfig(metrics=("beauty",)), reference, step_context)
    with pytest.raises(ZoetropeError, match="no score 'beauty'"):
        evaluate(EvaluateConfig(metrics=("temporal_flicker",), headline="beauty"), reference, step_context)
