"""The main job at full size: `make test-demo` (minutes; not part of `make test`)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.golden.runs import check_dataset
from zoetrope.infra.store import get_json, open_store

ZOETROPE = str(Path(sys.executable).parent / "zoetrope")
pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]


def run(store: Path, *arguments: str) -> dict[str, Any]:
    command = [ZOETROPE, "run", "nano", "--store", str(store), "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def executed(record: dict[str, Any]) -> list[str]:
    return [step for step, state in record["steps"].items() if state["status"] != "reused"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nano")


@pytest.fixture(scope="module")
def fresh(state: Path) -> dict[str, Any]:
    return run(state)


def test_the_model_learned_and_an_untrained_one_did_not(fresh: dict[str, Any], state: Path) -> None:
    record = get_json(open_store(state / "store"), fresh["steps"]["evaluate"]["record"])
    scores = record["metrics"]
    for attribute in ("color", "direction"):
        assert scores[f"{attribute}_count"] == 96
        assert scores[f"{attribute}_p_value"] < 0.01, scores
        assert scores[f"untrained_{attribute}_p_value"] >= 0.01, scores


def test_it_is_promoted_within_memory_and_its_report_is_there(fresh: dict[str, Any], state: Path) -> None:
    assert fresh["status"] == "FINISHED"
    check_dataset("nano", fresh["dataset"]["digest"])
    assert "is champion" in fresh["steps"]["promote"]["key_figure"]
    assert fresh["peak_memory_bytes"] < 4e9
    assert (state / "runs" / fresh["run_id"] / "report.html").stat().st_size > 100_000


def test_nothing_changed_is_answered_from_the_cache(fresh: dict[str, Any], state: Path) -> None:
    again = run(state)
    assert sorted(executed(again)) == ["promote", "report"]
    assert again["dataset"] == fresh["dataset"]


def test_the_promoted_model_makes_a_video(fresh: dict[str, Any], state: Path, tmp_path: Path) -> None:
    out = tmp_path / "video.mp4"
    command = [ZOETROPE, "generate", "--checkpoint", "models:/zoetrope-nano@champion", "--store", str(state)]
    subprocess.run([*command, "--prompt", "a red circle moving up", "--out", str(out)], check=True)
    assert out.stat().st_size > 500
    assert json.loads(out.with_suffix(".json").read_text())["prompt"] == "a red circle moving up"
