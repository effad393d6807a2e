"""The step table: rows name what is there, and everything else follows from them."""

import ast
import inspect
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.keys.closure import closure, installed
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.definition.form import cluster_inputs, local_inputs
from zoetrope.pipelines.definition.inputs import RunInputs
from zoetrope.pipelines.definition.inputs import resolved as resolved_inputs
from zoetrope.pipelines.definition.placements import placements
from zoetrope.pipelines.definition.resolve import resolve, step_configs
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS, StepRow, load, made_by, starts_from
from zoetrope.pipelines.recipe.recipe import load_recipe

NEUTRAL = {
    "flash-attn": "in no lock; a checkpoint names the attention that computed it",
    "jinja2": "the report shows results and makes none; it is never cached",
    "pydantic": "checks configurations, whose values are in the key themselves",
    "tenacity": "repeats calls and changes none",
    "psutil": "watches processes and computes nothing",
    "torchx-nightly": "starts processes and computes nothing",
}
"""Distributions that are imported and shape no bytes, and why."""
ROWS = pytest.mark.parametrize("row", STEPS.values(), ids=STEPS)


def imported(row: StepRow) -> set[str]:
    """Distributions that the operators of a step import."""
    tree, by_name = installed(), packages_distributions()
    tops = set()
    for name in closure(row.module, tree):
        module = tree.module(name)
        assert module is not None
        for node in ast.walk(ast.parse(module.path.read_bytes())):
            if isinstance(node, ast.Import):
                tops.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops.add(str(node.module).partition(".")[0])
    tops -= {*sys.stdlib_module_names, "zoetrope"}
    return {by_name.get(top, [top.replace("_", "-")])[0].lower().replace("_", "-") for top in tops}


@ROWS
def test_a_library_that_a_step_imports_is_in_its_key_or_shapes_no_bytes(row: StepRow) -> None:
    if row.cached:
        assert imported(row) - {*row.libraries, *NEUTRAL} == set()
    assert set(row.libraries) & set(NEUTRAL) == set()


@ROWS
def test_a_row_names_what_is_there(row: StepRow) -> None:
    component = load(row.component)
    given = set(inspect.signature(component.python_func).parameters)
    assert {"job", *row.inputs} <= given
    assert given <= {"job", *row.inputs, "page", "metrics", "version", "task_config"}
    assert component.component_spec.implementation.container.image == row.own_image
    assert ("task_config" in given) == (row.kind == "launches")
    assert set(row.optional) <= set(row.inputs)
    if row.section:
        row.config_class().model_validate(step_configs(load_recipe("nano"))[row.name])


def test_a_step_takes_the_last_product_of_a_kind() -> None:
    assert made_by("stage_1") == {"dataset": "encode"}
    assert made_by("stage_3") == {"dataset": "encode", "parent": "stage_2"}
    assert made_by("promote") == {"checkpoint": "stage_3", "scores": "evaluate"}
    assert {name: starts_from(name) for name in PIPELINES} == {
        "data": (), "train": ("dataset",), "evaluate": ("checkpoint",), "full": (),
    }  # fmt: skip


def test_the_pipelines_are_whole_parts_of_the_table() -> None:
    assert PIPELINES["full"] == tuple(STEPS)
    assert PIPELINES["data"] == ("ingest", "curate", "caption", "autoencoder", "encode", "report")
    assert PIPELINES["train"] == tuple(STEPS)[5:]
    assert PIPELINES["evaluate"] == ("generate", "evaluate", "promote", "report")


def test_inputs_of_a_pipeline_follow_from_what_it_starts_from() -> None:
    assert [each.name for each in local_inputs("train", "nano")] == ["dataset", "recipe", "overrides"]
    assert [each.name for each in local_inputs("evaluate", "nano")] == ["checkpoint", "recipe", "overrides"]
    assert [each.name for each in cluster_inputs("data")][:1] == ["source"]
    defaults = {each.name: each.default for each in cluster_inputs("evaluate")}
    assert defaults["checkpoint"] is inspect.Parameter.empty
    assert defaults["promote_when_green"] is True


def test_names_cost_nothing() -> None:
    code = "import sys, zoetrope.pipelines.definition.step_table; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"kfp", "torch", "pydantic", "yaml"} & set(done.stdout.split()) == set()


def test_a_step_whose_result_is_known_loads_no_torch() -> None:
    """What a step's process imports before it asks for the result of its key."""
    modules = {row.module for row in STEPS.values()} | {row.config.partition(":")[0] for row in STEPS.values()}
    code = f"import sys, zoetrope.infra.steps, {', '.join(sorted(modules - {''}))}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "mlflow", "dvc", "great_expectations", "av"} & set(done.stdout.split()) == set()


def test_jobs_run_where_their_rows_say() -> None:
    found = placements(load_recipe("nano"))
    assert set(found) == {name for name, row in STEPS.items() if row.launches_job}
    assert found["ingest"].nodes == 2
    assert {name for name, row in STEPS.items() if row.kind == "pod"} == {"generate", "evaluate"}


@pytest.mark.parametrize("step", ["encode", "curate", "generate"])
def test_gpus_that_nothing_would_use_are_refused_everywhere(step: str) -> None:
    gpus = f"resources.{step}={{cpu: 2, memory_gb: 4, gpus: 2, gpu_kind: h100}}"
    message = f"resources: GPUs for {step} would be reserved, paid for and idle: nothing there computes on GPUs yet"
    for refused in (
        lambda: Resolved.read("nano", [gpus]),
        lambda: resolved_inputs("nano", RunInputs(gpus)),
        lambda: resolve("nano", RunInputs(gpus), Settings()),
    ):
        with pytest.raises(ZoetropeError) as caught:
            refused()
        assert (caught.value.headline, caught.value.hint) == (message, f"--set resources.{step}.gpus=0")


def test_a_recipe_of_gpus_can_still_be_read() -> None:
    recipe = load_recipe("nano", ["resources.stage_1={cpu: 2, memory_gb: 4, gpus: 2, gpu_kind: h100}"])
    assert placements(recipe)["stage_1"].gpus == 1
