"""The raw gates of Open-Sora 2.0."""

from dataclasses import replace

import pytest

from zoetrope.components.ingest.config import IngestConfig
from zoetrope.components.ingest.gates import raw_gate
from zoetrope.components.ingest.probe import ProbeResult

GOOD = ProbeResult(
    digest="0" * 64,
    bytes=1,
    duration=2.0,
    width=300,
    height=100,
    fps=16.0,
    frames=32,
    codec="h264",
    profile="High",
    bits_per_pixel=0.02,
)


def test_what_just_reaches_every_bound_passes() -> None:
    assert raw_gate(GOOD, IngestConfig()) == ""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"duration": 1.99}, "too_short"),
        ({"bits_per_pixel": 0.0199}, "low_bits_per_pixel"),
        ({"fps": 15.9}, "low_fps"),
        ({"width": 301}, "aspect"),
        ({"width": 100, "height": 301}, "aspect"),
        ({"profile": "Constrained Baseline"}, "profile"),
    ],
)
def test_each_gate_has_its_reason(change: dict[str, float], code: str) -> None:
    assert raw_gate(replace(GOOD, **change), IngestConfig()).startswith(f"{code}: ")


def test_bounds_are_configurable() -> None:
    assert raw_gate(replace(GOOD, duration=1.0), IngestConfig(min_seconds=0.5)) == ""
