"""Sample footage: what it shows is what its captions and its truth file say."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

from zoetrope.components.ingest.footage import DefectRates, FootageConfig, render_footage
from zoetrope.components.ingest.footage.paint import RGB

CLEAN = FootageConfig(seed=4, films=4, shots_per_film=5, defects=False, dissolve_rate=0.3)
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    render_footage(folder, CLEAN)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def frames_of(path: Path) -> dict[int, np.ndarray]:
    with av.open(str(path)) as container:
        return {int(frame.pts): frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}


def centroid(picture: np.ndarray) -> tuple[float, float]:
    """Centre of the saturated pixels, as shares of the picture."""
    values = picture.astype(int)
    y, x = np.nonzero(values.max(2) - values.min(2) > 80)
    return float(x.mean()) / picture.shape[1], float(y.mean()) / picture.shape[0]


def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(films: Path, tmp_path: Path) -> None:
    render_footage(tmp_path / "again", CLEAN, workers=2)
    render_footage(tmp_path / "other", CLEAN.model_copy(update={"seed": 5}))
    assert digests(tmp_path / "again") == digests(films)
    assert digests(tmp_path / "other")["film_0000.mp4"] != digests(films)["film_0000.mp4"]


def test_captions_are_true(films: Path) -> None:
    truth = json.loads((films / "truth.json").read_text())
    for film in truth["files"]:
        frames = frames_of(films / film["path"])
        for shot in film["shots"]:
            words = shot["attributes"]
            inside = [frames[pts] for pts in sorted(frames) if shot["start_pts"] <= pts < shot["end_pts"]]
            # 16 frames at 8 per second, as training sees them, from 24 per second.
            seen = inside[:46:3]
            assert len(seen) == 16
            (x0, y0), (x1, y1) = centroid(seen[0]), centroid(seen[-1])
            step_x, step_y = STEPS[words["direction"]]
            assert 0.4 < step_x * (x1 - x0) + step_y * (y1 - y0) < 0.62
            assert abs(step_y * (x1 - x0) + step_x * (y1 - y0)) < 0.1
            middle = inside[len(inside) // 2]
            x, y = centroid(middle)
            found = middle[int(y * middle.shape[0]), int(x * middle.shape[1])].astype(int)
            nearest = min(RGB, key=lambda name: int(np.abs(found - RGB[name]).sum()))
            assert nearest == words["color"]
            for word in (words["color"], words["shape"], f"moving {words['direction']}"):
                assert word in shot["caption"]


def test_cuts_stand_exactly_where_the_truth_says(films: Path) -> None:
    truth = json.loads((films / "truth.json").read_text())
    for film in truth["files"]:
        frames = frames_of(films / film["path"])
        for before, after in zip(film["shots"], film["shots"][1:], strict=False):
            assert after["start_pts"] in frames
            if after["transition"] == "cut":
                assert before["end_pts"] == after["start_pts"]
                earlier = max(pts for pts in frames if pts < after["start_pts"])
                change = np.abs(frames[after["start_pts"]].astype(int) - frames[earlier]).mean()
                assert change > 5
            else:
                assert before["end_pts"] < after["start_pts"]


def test_held_out_pairs_are_in_the_prompts_and_nowhere_else(films: Path) -> None:
    truth = json.loads((films / "truth.json").read_text())
    held_out = {tuple(pair) for pair in truth["held_out"]}
    assert len(held_out) == 6
    shown = {
        (shot["attributes"]["color"], shot["attributes"]["direction"])
        for film in truth["files"]
        for shot in film["shots"]
    }
    assert not shown & held_out
    prompts = json.loads((films / "prompts.json").read_text())
    asked = {(row["attributes"]["color"], row["attributes"]["direction"]) for row in prompts}
    assert asked == held_out
    assert len({row["prompt"] for row in prompts}) == len(prompts)
    assert Counter(pair[0] for pair in held_out).most_common(1)[0][1] == 1


def test_defects_come_at_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    rates = DefectRates(**dict.fromkeys(DefectRates.model_fields, 0.1))
    config = FootageConfig(films=10, shots_per_film=3, size=48, shot_seconds=0.6, rates=rates)
    summary = render_footage(tmp_path, config)
    film_defects = {"low_bits": 1, "low_fps": 1, "truncated": 1, "variable_frame_rate": 1}
    # A tenth of the 18 shots whose film the raw gates let through.
    scene_defects = dict.fromkeys(("static", "blur", "bars", "text", "jitter"), 2)
    assert summary.defects == film_defects | scene_defects | {"duplicate": 1, "reencoded": 1}
    truth: dict[str, Any] = json.loads((tmp_path / "truth.json").read_text())
    assert summary.files == len(truth["files"]) == len(list(tmp_path.glob("*.mp4"))) == 12
    copies = {entry["defect"]: entry for entry in truth["files"] if entry["copy_of"]}
    original = (tmp_path / copies["duplicate"]["copy_of"]).read_bytes()
    assert (tmp_path / copies["duplicate"]["path"]).read_bytes() == original
    again = copies["reencoded"]
    assert (tmp_path / again["path"]).read_bytes() != (tmp_path / again["copy_of"]).read_bytes()


@pytest.mark.parametrize(
    "settings", [{"held_out_pairs": 19}, {"size": 97}, {"films": 0}, {"rates": {"static": 0.6, "blur": 0.6}}, {"x": 1}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FootageConfig.model_validate(settings)
