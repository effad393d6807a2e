"""A step is added by its folder and one row of the step table; nothing else is touched."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scratch import ROOT, ask, copy_code, insert_before

NEW = ROOT / "tests" / "fixtures" / "upscale"
ROW = """    _row(
        "upscale",
        "evaluate",
        config="UpscaleConfig",
        inputs={"videos": "videos"},
        makes="videos",
        kind="pod",
        image=TRAIN,
        libraries="pyarrow",
    ),
"""
BEFORE = '    _row(\n        "evaluate",\n'
ASKED = """
import json, sys
from pathlib import Path
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import get_json, open_store, put_json
from zoetrope.infra.images.lock import read_images
from zoetrope.pipelines.cli.step import BY_HAND
from zoetrope.pipelines.definition.compile import compile_cluster, compile_pipeline
from zoetrope.pipelines.definition.inputs import RunInputs
from zoetrope.pipelines.definition.resolve import resolve
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS, made_by
from zoetrope.pipelines.kubeflow.demands import demands
from zoetrope.pipelines.local.one_step import run_step

resolved = Resolved.read("nano", ["upscale.factor=3"])
jobs = [json.loads(text) for text in resolve("nano", RunInputs("upscale.factor=3"), Settings(run_id="r"))[:-1]]
state = Path(sys.argv[1])
store = open_store(state / "store")
videos = str(put_json(store, {"schema": "zoetrope.videos.v1", "videos": [], "checkpoint": "c"}))
compile_pipeline("evaluate", resolved, Path("local.yaml"))
compile_cluster("evaluate", resolved, read_images(Path(sys.argv[2])), Path("cluster.yaml"))
product, record = run_step("upscale", "nano", ["upscale.factor=3"], {"videos": videos}, state)
print(json.dumps({
    "place": sys.modules["zoetrope.pipelines"].__path__[0],
    "pipelines": PIPELINES,
    "by_hand": BY_HAND,
    "inputs": {step: made_by(step) for step in ("upscale", "evaluate")},
    "factor": resolved.recipe.upscale.factor,
    "cpu": resolved.recipe.resources["upscale"].cpu,
    "jobs": {job["step"]: job for job in jobs},
    "demands": [each.step for each in demands(resolved, "evaluate")],
    "product": get_json(store, product),
    "record": get_json(store, record),
}))
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the step in it."""
    root = tmp_path_factory.mktemp("scratch")
    code = copy_code(root)
    shutil.copytree(NEW, code / "components" / "upscale")
    insert_before(code / "pipelines" / "definition" / "step_table.py", BEFORE, ROW)
    return root


@pytest.fixture(scope="module")
def found(scratch: Path) -> dict[str, Any]:
    """What the copy says about the step."""
    return ask(scratch, ASKED, "state", str(ROOT / "tests" / "fixtures" / "images.lock"))


def test_it_stands_in_the_pipelines_between_what_it_reads_and_what_reads_it(found: dict[str, Any]) -> None:
    assert found["pipelines"]["evaluate"] == ["generate", "upscale", "evaluate", "promote", "report"]
    assert "upscale" in found["pipelines"]["full"]
    assert "upscale" not in found["pipelines"]["data"]
    assert found["inputs"] == {"upscale": {"videos": "generate"}, "evaluate": {"videos": "upscale"}}


def test_the_recipe_has_its_section_and_resolve_its_job(found: dict[str, Any]) -> None:
    assert (found["factor"], found["cpu"]) == (3, 2.0)
    job = found["jobs"]["upscale"]
    assert job["config"] == {"factor": 3, "workers": 1}
    assert job["neutral"] == ["workers"]
    assert "zoetrope.components.upscale.step" in job["operators"]
    assert set(job["libraries"]) == {"pyarrow", "python"}


def test_the_report_tells_of_it_in_its_place(found: dict[str, Any]) -> None:
    steps = [(each["name"], each["title"]) for each in found["jobs"]["report"]["config"]["steps"]]
    assert steps[8:11] == [("generate", "Generate"), ("upscale", "Upscale"), ("evaluate", "Evaluate")]


def test_it_runs_by_hand_and_what_its_pod_asks_for_is_known(found: dict[str, Any]) -> None:
    assert "upscale" in found["by_hand"]
    assert found["demands"] == ["generate", "upscale", "evaluate"]
    assert found["product"]["factor"] == 3
    assert (found["record"]["step"], found["record"]["key_figure"]) == ("upscale", "0 videos")


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("target", ["local", "cluster"])
def test_it_compiles(scratch: Path, target: str) -> None:
    spec = next(yaml.safe_load_all((scratch / f"{target}.yaml").read_text()))
    dag = spec["root"]["dag"] if target == "local" else spec["components"]["comp-exit-handler-1"]["dag"]
    given = {name: task["inputs"]["parameters"] for name, task in dag["tasks"].items()}
    assert given["evaluate"]["videos"]["taskOutputParameter"]["producerTask"] == "upscale"
    assert given["upscale"]["videos"]["taskOutputParameter"]["producerTask"] == "generate"
    assert given["upscale"]["job"]["taskOutputParameter"] == {
        "outputParameterKey": "upscale",
        "producerTask": "resolve",
    }
    for last in ("promote", "report"):
        assert "upscale" in given[last]["records"]["runtimeValue"]["constant"]
    container = spec["deploymentSpec"]["executors"]["exec-upscale"]["container"]
    if target == "cluster":
        assert (container["resources"]["cpuLimit"], container["resources"]["memoryLimit"]) == (2.0, 4.0)
        assert container["image"].startswith("registry.example.org/zoetrope/zoetrope-train@")
