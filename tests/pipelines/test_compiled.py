"""The compiled YAML: committed, byte-identical, complete."""

from pathlib import Path

import pytest
import yaml

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.compile import COMPILED, check_all, compile_all
from zoetrope.pipelines.recipe_file import recipe_names
from zoetrope.pipelines.resolve_component import resolve
from zoetrope.pipelines.step_table import PIPELINES, STEPS, UNCACHED


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compiled")
    compile_all(recipe_names(), directory)
    return directory


def test_the_committed_files_are_what_compiles_now() -> None:
    check_all(recipe_names())
    assert {path.name for path in COMPILED.glob("*.yaml")} == {
        f"{recipe}-{pipeline}.yaml" for recipe in recipe_names() for pipeline in PIPELINES
    }


def test_drift_is_named(compiled: Path) -> None:
    path = compiled / "nano-data.yaml"
    path.write_text(path.read_text().replace("sources", "sauces", 1))
    with pytest.raises(ZoetropeError, match=r"nano-data.yaml differs: .*sauces"):
        check_all(recipe_names(), compiled)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_has_its_steps_their_caching_and_no_surprises(pipeline: str) -> None:
    text = (COMPILED / f"nano-{pipeline}.yaml").read_text()
    spec = yaml.safe_load(text)
    tasks = {task["taskInfo"]["name"]: task for task in spec["root"]["dag"]["tasks"].values()}
    assert set(tasks) == {"resolve", *PIPELINES[pipeline]}
    for name, task in tasks.items():
        assert bool(task["cachingOptions"].get("enableCache")) == (name not in UNCACHED), name
    assert "pip install" not in text
    assert ":latest" not in text


def test_full_is_the_composition_of_the_smaller_ones() -> None:
    assert set(PIPELINES["full"]) == {step for name in ("data", "train", "evaluate") for step in PIPELINES[name]}


def test_resolve_has_one_output_per_step_in_their_order() -> None:
    outputs = list(resolve.component_spec.outputs)
    assert outputs == [*STEPS, "dataset_version"]
