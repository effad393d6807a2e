from __future__ import annotations

import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from zoetrope.components.evaluate import metrics
from zoetrope.components.evaluate.metric import MetricInputs
from zoetrope.components.evaluate.metrics import METRICS
from zoetrope.components.evaluate.samples import Sample

COLORS = ("red", "green", "blue", "yellow", "magenta", "cyan")
DIRECTIONS = ("left", "right", "up", "down")
Render = Callable[..., np.ndarray]


def test_table_and_folder_agree() -> None:
    assert sorted(METRICS) == sorted(module.name for module in pkgutil.iter_modules(metrics.__path__))
    assert all(name == metric.name for name, metric in METRICS.items())


def inputs(render: Render, *, wrong: int = 0) -> MetricInputs:
    """One right video for each colour and direction but for `wrong` of them, and noise as the control group."""
    rng = np.random.default_rng(1)
    samples = []
    for number, (color, direction) in enumerate((c, d) for c in COLORS for d in DIRECTIONS):
        shown = COLORS[(COLORS.index(color) + 1) % 6] if number < wrong else color
        attributes = {"color": color, "direction": direction}
        samples.append(Sample(render(shown, direction, size=32), "prompt", attributes))
        noise = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        samples.append(Sample(noise, "prompt", attributes, model="untrained"))
    return MetricInputs(samples, COLORS, DIRECTIONS)


def test_accuracies_come_with_exact_binomial_p_values(render: Render) -> None:
    given = inputs(render, wrong=6)
    color = METRICS["color_accuracy"].measure(given)
    assert color.scores["color_accuracy"] == 18 / 24
    assert color.scores["color_correct"] == 18
    assert color.scores["color_p_value"] == pytest.approx(binom.sf(17, 24, 1 / 6))
    assert color.scores["untrained_color_p_value"] > 0.01
    assert color.columns["color_right"][::2].count(False) == 6
    direction = METRICS["direction_accuracy"].measure(given)
    assert direction.scores["direction_accuracy"] == 1.0
    assert direction.scores["direction_p_value"] == pytest.approx(0.25**24)
    assert direction.scores["untrained_direction_p_value"] > 0.01


def test_without_attributes_the_accuracies_are_absent_and_not_zero(render: Render) -> None:
    plain = MetricInputs([Sample(render("red", "left", size=32), "a film of mine")], COLORS, DIRECTIONS)
    assert METRICS["color_accuracy"].measure(plain).scores == {}
    assert METRICS["direction_accuracy"].measure(plain).scores == {}
    assert METRICS["held_out_loss"].measure(plain).scores == {}


def test_image_to_video_samples_do_not_enter_the_accuracies(render: Render) -> None:
    attributes = {"color": "red", "direction": "left"}
    given = MetricInputs(
        [
            Sample(render("red", "left", size=32), "p", attributes),
            Sample(render("blue", "right", size=32), "p", attributes, condition="i2v_head"),
        ],
        COLORS,
        DIRECTIONS,
    )
    scores = METRICS["color_accuracy"].measure(given).scores
    assert (scores["color_accuracy"], scores["color_count"]) == (1.0, 1.0)


def test_flicker_and_smoothness_fall_with_noise_between_frames(render: Render) -> None:
    for name in ("temporal_flicker", "motion_smoothness"):
        scores = METRICS[name].measure(inputs(render)).scores
        assert 0.9 < scores[name] <= 1.0
        assert scores[f"untrained_{name}"] < 0.8
        still = MetricInputs([Sample(np.full((5, 16, 16, 3), 80, np.uint8), "p")])
        assert METRICS[name].measure(still).scores[name] == 1.0


def test_dynamic_degree_counts_moving_videos(render: Render) -> None:
    still = np.repeat(render("red", "left", size=64)[:1], 16, axis=0)
    given = MetricInputs([Sample(render("red", "down", size=64), "p"), Sample(still, "p")])
    result = METRICS["dynamic_degree"].measure(given)
    assert result.columns["dynamic_degree"] == [1.0, 0.0]
    assert result.scores["dynamic_degree"] == 0.5


def test_one_frame_is_a_video_too() -> None:
    image = MetricInputs([Sample(np.full((1, 16, 16, 3), 80, np.uint8), "p")])
    for name in ("temporal_flicker", "motion_smoothness", "dynamic_degree"):
        assert np.isfinite(METRICS[name].measure(image).scores[name])
