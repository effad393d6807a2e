"""What the scaffold writes runs, is typed, passes its own tests and stands where its kind is looked up."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scratch import FOLDERS, ROOT, ask, copy_code, environment
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.setup.scaffold import KINDS, placing, scaffold
from zoetrope.infra.setup.scaffold.__main__ import main

NEW = {"step": "touch_up", "filter": "exposure", "metric": "contrast"}
ASKED = """
import json, os, sys
from pathlib import Path
import numpy as np, pyarrow
from zoetrope.components.curate.config import CurateConfig
from zoetrope.components.curate.step import curate
from zoetrope.components.evaluate.config import EvaluateConfig
from zoetrope.components.evaluate.step import evaluate
from zoetrope.components.ingest.config import IngestConfig, SourceConfig
from zoetrope.components.ingest.footage import FootageConfig
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext
from zoetrope.infra.store import get_json, get_table, open_store, put_file_content, put_json, put_table
from zoetrope.model.video import write_video
from zoetrope.pipelines.definition.compile import compile_pipeline
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import PIPELINES, made_by
from zoetrope.pipelines.local.one_step import run_step

state = Path("state").resolve()
store = open_store(state / "store")
(state / "work").mkdir(parents=True)
context = StepContext("x", store, state / "work", state / "run")
footage = FootageConfig(seed=3, films=1, shots_per_film=2, size=48, defects=False)
sources = str(ingest(IngestConfig(), SourceConfig(samples=footage, licence="CC0-1.0"), context).product)
clips = get_table(store, get_json(store, curate(CurateConfig(workers=1), sources, context).product)["table"])

table = lambda *rows: str(put_table(store, pyarrow.Table.from_pylist(list(rows))))
dataset = {
    "captions": str(put_json(store, {"table": table({"attributes": ""})})),
    "buckets": [], "index": table({"bucket": "b", "split": "train"}),
}
checkpoint = str(put_json(store, {"dataset": str(put_json(store, dataset))}))
half = np.zeros((4, 32, 32, 3), np.uint8)
half[:, :, 16:] = 200
video = str(put_file_content(store, write_video(state / "half.mp4", half, 8)))
entry = {"video": video, "prompt": "p", "seed": 1, "attributes": {}, "condition": "t2v", "model": "trained"}
videos = str(put_json(store, {"schema": "zoetrope.videos.v1", "videos": [entry], "checkpoint": checkpoint}))

compile_pipeline("evaluate", Resolved.read("nano", ["touch_up.gain=1.2"]), Path("local.yaml"))
product, record = run_step("touch_up", "nano", ["touch_up.gain=1.2"], {"videos": videos}, state)
scores = [get_json(store, evaluate(EvaluateConfig(), str(each), context).product) for each in (videos, product)]
print(json.dumps({
    "place": sys.modules["zoetrope.infra"].__path__[0],
    "pipeline": PIPELINES["evaluate"],
    "inputs": {step: made_by(step).get("videos") for step in ("touch_up", "evaluate")},
    "figure": get_json(store, record)["key_figure"],
    "measured": sorted({uri.split("/measurements/")[1].split("/")[0] for uri in store.list("measurements/")}),
    "exposure": clips["exposure"].to_pylist(),
    "contrast": [each["scores"]["contrast"] for each in scores],
    "rows": [get_table(store, each["table"])["contrast"].to_pylist() for each in scores],
    "better": scores[0]["higher_is_better"]["contrast"],
}))
"""


def checkout(root: Path) -> Path:
    """A copy of the code as it lies in a checkout; each folder is also seen below `zoetrope/`."""
    copy_code(root)
    for name in FOLDERS:
        (root / name).symlink_to(f"zoetrope/{name}")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "tests").mkdir()
    return root


def state(root: Path) -> dict[str, bytes]:
    """Every file of a checkout."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one of each."""
    root = checkout(tmp_path_factory.mktemp("scratch"))
    for kind, name in NEW.items():
        assert main([kind, name, "--into", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def found(scratch: Path) -> dict[str, Any]:
    """What the checkout says about them."""
    return ask(scratch, ASKED)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which nothing may change."""
    return checkout(tmp_path_factory.mktemp("untouched"))


def tool(root: Path, *command: str) -> None:
    """Runs a tool on the copy; it has nothing to say against it."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root, env=environment(root), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_their_own_tests_pass(scratch: Path) -> None:
    tool(scratch, "pytest", "tests", "--noconftest", "-p", "no:cacheprovider")


def test_ruff_has_nothing_to_say(scratch: Path) -> None:
    tool(scratch, "ruff", "check", *FOLDERS, "tests", "--no-cache")
    tool(scratch, "ruff", "format", "--check", *FOLDERS, "tests", "--no-cache")


def test_mypy_has_nothing_to_say(scratch: Path) -> None:
    # what torch looks like takes ten seconds to read, and nothing here asks for it
    with (scratch / "pyproject.toml").open("a") as settings:
        settings.write('[[tool.mypy.overrides]]\nmodule = ["torch.*"]\nfollow_imports = "skip"\n')
    (scratch / ".typing").mkdir()
    (scratch / ".typing" / "zoetrope").symlink_to("../zoetrope")
    modules = ("touch_up.step", "curate.filters.exposure", "evaluate.metrics.contrast")
    names = [word for each in modules for word in ("-m", f"zoetrope.components.{each}")]
    tool(scratch, "mypy", "--cache-dir", "types", "--follow-imports", "silent", *names)


def test_the_step_stands_in_the_pipeline_and_runs(found: dict[str, Any], scratch: Path) -> None:
    place = found["pipeline"].index("touch_up")
    assert found["pipeline"][place + 1] == found["pipeline"][-3] == "evaluate"
    assert found["inputs"] == {"touch_up": "generate", "evaluate": "touch_up"}
    assert found["figure"] == "1 videos"
    assert "exec-touch-up" in (scratch / "local.yaml").read_text()
    # levels of 200 became 240, so the videos are others and their contrast has grown by the same
    assert found["contrast"][1] == pytest.approx(1.2 * found["contrast"][0], rel=0.02)


def test_the_filter_is_measured_and_its_score_is_in_the_clips(found: dict[str, Any]) -> None:
    assert "exposure" in found["measured"]
    assert len(found["exposure"]) > 1
    assert all(0 < value < 255 for value in found["exposure"])


def test_the_metric_is_in_the_scores_and_in_the_table_of_videos(found: dict[str, Any]) -> None:
    assert found["contrast"][0] == pytest.approx(200 / 255, abs=0.02)
    assert found["rows"] == [[value] for value in found["contrast"]]
    assert found["better"] is True


def test_it_says_what_it_wrote_and_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "components", tmp_path / "components")
    (tmp_path / "tests").mkdir()
    assert main(["metric", "contrast", "--into", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for words in (
        "  wrote    components/evaluate/metrics/contrast.py\n",
        "  changed  components/evaluate/metrics/__init__.py\n",
        "  test     .venv/bin/python -m pytest tests/components/evaluate/test_metric_contrast.py\n",
        "  then     describe it in components/evaluate/README.md\n",
    ):
        assert words in said
    assert "$" not in said


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("stage", "x", "there is no kind 'stage'"),
        ("step", "", "not of the form"),
        ("step", "Upscale", "not of the form"),
        ("step", "up-scale", "not of the form"),
        ("step", "../upscale", "not of the form"),
        ("step", "2d", "not of the form"),
        ("step", "a" * 31, "not of the form"),
        ("filter", "lambda", "a keyword of Python"),
        ("step", "match", "a keyword of Python"),
        ("step", "encode", "components/encode is there already"),
        ("step", "source", "means something in pipelines/"),
        ("step", "finish", "means something in pipelines/"),
        ("filter", "blur", "components/curate/filters/blur.py is there already"),
        ("filter", "base", "components/curate/filters/base.py is there already"),
        ("filter", "frames", "means something in components/curate/"),
        ("filter", "table", "means something in components/curate/"),
        ("filter", "construct", "a method of every configuration has it"),
        ("metric", "held_out_loss", "components/evaluate/metrics/held_out_loss.py is there already"),
        ("metric", "attribute_accuracy", "means something in components/evaluate/"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_before_anything_is_written(
    untouched: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, reason: str
) -> None:
    before = state(untouched)
    assert main([kind, name, "--into", str(untouched)]) == 2
    headline, hint = capsys.readouterr().err.splitlines()
    assert headline.startswith("zoetrope scaffold: ") and reason in headline
    assert hint.startswith("  -> ")
    assert state(untouched) == before


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="no checkout of zoetrope") as caught:
        scaffold("step", "upscale", tmp_path)
    assert str(tmp_path) in caught.value.headline


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", ["rename", "replace", "_in_order"])
def test_when_it_cannot_be_finished_nothing_is_there(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fails: str
) -> None:
    before, folders = state(untouched), sorted(untouched.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(placing if fails == "_in_order" else Path, fails, full)
    with pytest.raises(ZoetropeError, match="somewhere cannot be written: No space left on device"):
        scaffold(kind, NEW[kind], untouched)
    assert state(untouched) == before
    assert sorted(untouched.rglob("*")) == folders


@pytest.mark.parametrize(
    ("kind", "old", "new", "reason"),
    [
        ("step", "_ROWS = (", "ROWS = (", "there is no row of 'evaluate' in _ROWS"),
        ("filter", "class FilterSettings", "class Filters", "there is no class FilterSettings"),
        ("metric", "for module in (", "for module in sorted(", "METRICS is not made of a tuple of modules"),
        ("filter", "class FilterSettings", "class = FilterSettings", "filters/__init__.py, line "),
    ],
)
def test_a_table_of_another_form_is_left_alone(tmp_path: Path, kind: str, old: str, new: str, reason: str) -> None:
    for name in ("components", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "compiled"))
    (tmp_path / "tests").mkdir()
    table = tmp_path / KINDS[kind].table
    text = table.read_text()
    assert text.count(old) == 1
    table.write_text(text.replace(old, new))
    before = state(tmp_path)
    with pytest.raises(ZoetropeError) as caught:
        scaffold(kind, NEW[kind], tmp_path)
    assert reason in caught.value.headline
    assert caught.value.hint
    assert state(tmp_path) == before
