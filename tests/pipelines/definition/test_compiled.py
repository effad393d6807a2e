"""The compiled YAML: committed, byte-identical, complete."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipelines.definition.compiler import Compiler, compiler
from zoetrope.infra.images.lock import read_images
from zoetrope.pipelines.definition.compile import COMPILED
from zoetrope.pipelines.definition.resolve_component import resolve
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS
from zoetrope.pipelines.recipe.files import recipe_names

ROOT = Path(__file__).parents[3]
CLUSTER = COMPILED / "cluster"
FIXTURE = Path(__file__).parents[2] / "fixtures" / "images.lock"


@pytest.fixture(scope="module")
def compiling() -> Iterator[Compiler]:
    """`zoetrope compile` in a process of its own."""
    with compiler() as started:
        yield started


def test_the_committed_files_are_what_compiles_now(compiling: Compiler) -> None:
    done = compiling("--check")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in COMPILED.glob("*.yaml")} == {
        f"{recipe}-{pipeline}.yaml" for recipe in recipe_names() for pipeline in PIPELINES
    }


def test_the_committed_files_for_a_cluster_are_what_compiles_now(compiling: Compiler) -> None:
    done = compiling("--check", "--out", str(CLUSTER), images=FIXTURE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_for_a_cluster_every_pod_is_pinned_limited_and_knows_secrets_by_name_alone(pipeline: str) -> None:
    text = (CLUSTER / f"nano-{pipeline}.yaml").read_text()
    spec, platform = yaml.safe_load_all(text)
    executors = spec["deploymentSpec"]["executors"]
    places = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    steps = {"resolve", "finish", *PIPELINES[pipeline]}
    assert len(executors) == len(steps)
    digests = set(read_images(FIXTURE).images.values())
    for name, executor in executors.items():
        assert executor["container"]["image"] in digests, name
        assert executor["container"]["resources"]["memoryLimit"] > 0
        place = places[name]
        assert place["securityContext"] == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}
        assert {each["secretName"] for each in place["secretAsEnv"]} <= {"zoetrope-store", "zoetrope-git"}
        assert int(place["activeDeadlineSeconds"]) > 0
    retries = re.findall(r"maxRetryCount: (\d+)", text)
    assert len(retries) == len(steps)
    assert "pip install" not in text
    assert ":latest" not in text


def test_launchers_ask_for_nothing_themselves_and_pass_their_settings_on() -> None:
    spec = next(yaml.safe_load_all((CLUSTER / "nano-train.yaml").read_text()))
    training = [name for name in spec["components"] if name.startswith("comp-train-stage")]
    assert len(training) == 3
    for name in training:
        passed = {
            each["field"]: each.get("applyToTask", False) for each in spec["components"][name]["taskConfigPassthroughs"]
        }
        assert passed["RESOURCES"] is False


def test_the_form_has_few_described_inputs() -> None:
    expected = {
        "data": ["budget_usd", "fresh", "overrides", "source"],
        "train": ["budget_usd", "dataset", "fresh", "overrides", "promote_when_green"],
        "evaluate": ["budget_usd", "checkpoint", "fresh", "overrides", "promote_when_green"],
        "full": ["budget_usd", "fresh", "overrides", "promote_when_green", "source"],
    }
    for pipeline in PIPELINES:
        spec = next(yaml.safe_load_all((CLUSTER / f"nano-{pipeline}.yaml").read_text()))
        inputs = spec["root"]["inputDefinitions"]["parameters"]
        assert sorted(inputs) == expected[pipeline]
        assert all(len(each["description"]) > 20 for each in inputs.values())


def test_an_image_that_is_not_in_the_lock_is_named(tmp_path: Path, compiling: Compiler) -> None:
    poor = tmp_path / "images.lock"
    poor.write_text(f'core = "{read_images(FIXTURE).image("core")}"\n')
    done = compiling("nano", "--out", str(tmp_path), images=poor)
    assert done.returncode == 2
    assert re.search(r"images\.lock holds no image 'train'", done.stderr)


def test_memory_of_half_a_gigabyte_compiles(tmp_path: Path, compiling: Compiler) -> None:
    less = ("--set", "resources.stage_1={cpu: 2, memory_gb: 0.5}")
    assert compiling("nano", "--out", str(tmp_path), *less, images=FIXTURE).returncode == 0
    assert "resourceMemoryLimit: 250M" in (tmp_path / "nano-train.yaml").read_text()


def test_a_recipe_file_travels_inside_the_yaml_and_a_folder_of_this_machine_does_not(
    tmp_path: Path, compiling: Compiler
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: nano\nname: mine\n")
    assert compiling(str(mine), "--out", str(tmp_path / "out"), images=FIXTURE).returncode == 0
    assert '"name":"mine"' in (tmp_path / "out" / "mine-data.yaml").read_text()
    mine.write_text("extends: nano\nname: mine\nsource: {samples: null, folder: /videos}\n")
    done = compiling(str(mine), "--out", str(tmp_path / "out"), images=FIXTURE)
    assert done.returncode == 2
    assert "pods do not see the folder /videos" in done.stderr


def test_drift_is_named(tmp_path: Path, compiling: Compiler) -> None:
    compiled = shutil.copytree(COMPILED, tmp_path / "compiled")
    path = compiled / "nano-data.yaml"
    path.write_text(path.read_text().replace("sources", "sauces", 1))
    done = compiling("--check", "--out", str(compiled))
    assert done.returncode == 2
    assert re.search(r"nano-data.yaml differs: .*sauces", done.stderr)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_has_its_steps_their_caching_and_no_surprises(pipeline: str) -> None:
    text = (COMPILED / f"nano-{pipeline}.yaml").read_text()
    spec = yaml.safe_load(text)
    tasks = {task["taskInfo"]["name"]: task for task in spec["root"]["dag"]["tasks"].values()}
    assert set(tasks) == {"resolve", *PIPELINES[pipeline]}
    for name, task in tasks.items():
        assert bool(task["cachingOptions"].get("enableCache")) == (name in STEPS and STEPS[name].cached), name
    assert "pip install" not in text
    assert ":latest" not in text


def test_full_is_the_composition_of_the_smaller_ones() -> None:
    assert set(PIPELINES["full"]) == {step for name in ("data", "train", "evaluate") for step in PIPELINES[name]}


def test_resolve_has_one_output_per_step_in_their_order() -> None:
    outputs = list(resolve.component_spec.outputs)
    assert outputs == [*STEPS, "dataset_version"]
