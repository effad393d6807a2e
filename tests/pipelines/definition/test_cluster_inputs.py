"""Inputs of a run on a cluster, where jobs are placed, and what is written at its beginning and end."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.lock import read_images
from zoetrope.infra.placement import PLAIN, TORCH_CPU, TORCH_GPU, placement_of
from zoetrope.infra.runs import RunFiles, RunPlan
from zoetrope.infra.runs.record import RunDataset
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import open_store, put_json
from zoetrope.pipelines.definition.begin import ClusterInputs
from zoetrope.pipelines.definition.finish import finish
from zoetrope.pipelines.definition.inputs import RunInputs, resolved
from zoetrope.pipelines.definition.placements import placements
from zoetrope.pipelines.definition.resolve import resolve
from zoetrope.pipelines.definition.step_table import PIPELINES, STEPS
from zoetrope.pipelines.recipe.recipe import load_recipe

IMAGES = read_images(Path(__file__).parents[2] / "fixtures" / "images.lock").images


def test_inputs_become_overrides_and_what_a_person_wrote_wins_over_the_source() -> None:
    inputs = RunInputs("source.licence=CC-BY-4.0\n\n stages.stage_1.steps=7 ", "s3://bucket/films", 2.5, promote=False)
    recipe = resolved("nano", inputs)
    assert (recipe.source.s3, recipe.source.licence, recipe.source.rights) == (
        "s3://bucket/films",
        "CC-BY-4.0",
        "unknown",
    )
    assert recipe.stages.stage_1.steps == 7
    assert str(recipe.budget_usd) == "2.5"
    assert recipe.promote.requested is False
    assert resolved("nano", RunInputs(source="samples:9")).source.samples.seed == 9  # type: ignore[union-attr]
    assert resolved("nano", RunInputs()) == load_recipe("nano")


def test_overrides_fit_into_the_one_line_of_the_form() -> None:
    recipe = resolved("nano", RunInputs("stages.stage_1.steps=7; source.rights=ours; contract 12; budget_usd=3"))
    assert (recipe.stages.stage_1.steps, recipe.source.rights, recipe.budget_usd) == (7, "ours; contract 12", 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (RunInputs(source="/videos"), "neither an S3 prefix nor samples"),
        (RunInputs(source="samples:x"), "neither an S3 prefix nor samples"),
        (RunInputs(budget_usd=-1), "below zero"),
        (RunInputs(overrides="stages.stage_9.steps=1"), "stage_9"),
    ],
)
def test_bad_inputs_are_named(inputs: RunInputs, message: str) -> None:
    with pytest.raises(ZoetropeError, match=message):
        resolved("nano", inputs)


def test_what_a_step_is_given_is_divided_among_its_pods() -> None:
    recipe = load_recipe("nano", ["resources.stage_1={cpu: 16, memory_gb: 64, gpus: 8, gpu_kind: h200}"])
    found = placements(recipe)
    stage = found["stage_1"]
    assert (stage.nodes, stage.processes_per_node, stage.gpus, stage.cpu, stage.memory_gb) == (2, 1, 4, 8, 32)
    assert (stage.runtime, found["stage_2"].runtime, found["encode"].runtime) == (TORCH_GPU, TORCH_CPU, PLAIN)
    assert stage.cpu_request == pytest.approx(0.8)
    assert found["curate"].nodes == recipe.curate.workers
    with pytest.raises(ZoetropeError, match="do not divide among 2 nodes"):
        placements(load_recipe("nano", ["autoencoder.workers=3", "autoencoder.training.batch_size=9"]))
    with pytest.raises(ZoetropeError, match="3 GPUs do not divide"):
        placements(load_recipe("nano", ["resources.stage_1={gpus: 3, gpu_kind: h200}"]))


def test_a_default_resource_can_be_changed_for_all_steps_at_once() -> None:
    recipe = load_recipe("nano", ["resources.default.cpu=7", "resources.encode={cpu: 3, memory_gb: 1}"])
    assert {recipe.resources[step].cpu for step in STEPS if step != "encode"} == {7}
    assert recipe.resources["encode"].cpu == 3


def test_what_was_set_on_the_task_in_kfp_reaches_the_job() -> None:
    placement = placements(load_recipe("nano"))["stage_1"]
    settings = Settings(cluster=True, placements={"stage_1": placement.model_dump(mode="json")})
    config = SimpleNamespace(
        resources={"limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}, "requests": {"cpu": "500m"}},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        node_selector={"pool": "h200"},
        affinity=None,
        env=[{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "ZOETROPE_POD", "value": "launcher"}, {"name": "X"}],
    )
    got = placement_of(settings, "stage_1", config)
    assert got is not None
    assert (got.cpu, got.cpu_request, got.gpus) == (4, 0.5, 2)
    assert got.memory_gb == pytest.approx(17.18, abs=0.01)
    assert got.node_selector == {"pool": "h200"}
    assert got.env == {"NCCL_DEBUG": "INFO"}
    assert placement_of(settings, "promote", config) is None
    assert placement_of(Settings(placements=settings.placements), "stage_1", config) is None


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("source={folder: /etc, licence: x, rights: y}", "source.folder"),
        ("autoencoder.pretrained=/etc/passwd", "autoencoder.pretrained"),
        ("model.pretrained=/etc/passwd", "model.pretrained"),
        ("encode.text={kind: folders, t5_folder: /etc, clip_folder: /etc}", "encode.text.t5_folder"),
    ],
)
def test_paths_of_ones_own_machine_cannot_be_filled_in(overrides: str, key: str, tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path), run_id="run-1", cluster=True, tracking_uri="")
    with pytest.raises(ZoetropeError) as caught:
        resolve("nano", RunInputs(overrides), settings, ClusterInputs.read("data", "", json.dumps(IMAGES)))
    assert caught.value.headline.startswith(f"{key}: pods do not see /etc")
    assert RunFiles(open_store(tmp_path), "run-1").plan() is None


def test_a_run_begins_with_a_plan_and_no_image_is_part_of_a_job(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path), run_id="run-1", commit="abc", cluster=True, tracking_uri="")
    manifest = str(put_json(open_store(tmp_path), {"schema": "zoetrope.dataset.v1", "digest": "d"}))
    run = ClusterInputs.read("train", manifest, json.dumps(IMAGES))
    *jobs, dataset = resolve("nano", RunInputs(budget_usd=3), settings, run)
    assert dataset == manifest
    plan = RunFiles(open_store(tmp_path), "run-1").plan()
    assert plan is not None
    assert (plan.recipe, float(plan.budget_usd), plan.images) == ("nano", 3.0, IMAGES)
    assert plan.dataset == {"reference": dataset, "tag": "", "revision": "", "digest": "d"}
    other = json.dumps(IMAGES | {"train": "registry.example.org/t@sha256:" + "9" * 64})
    again = resolve("nano", RunInputs(budget_usd=3), settings, ClusterInputs.read("train", dataset, other))
    assert again[:-1] == tuple(jobs)


def test_the_exit_task_files_what_ran_what_the_cache_answered_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "store")
    run_files = RunFiles(store, "run-1")
    settings = Settings(store=store.root, run_id="run-1", cluster=True, tracking_uri="")
    monkeypatch.setattr("zoetrope.infra.reaper.collector.collect_this_run", lambda settings: None)

    def record(step: str, run: str, **inputs: str) -> str:
        product = str(put_json(store, {"schema": "zoetrope.dataset.v1", "name": "films", "digest": "d"}))
        value = {
            "schema": "zoetrope.record.v1",
            "step": step,
            "run_id": run,
            "attempt": 1,
            "seconds": 2.0,
            "resources": {},
            "usage": {},
        }
        value |= {"product": product, "key_figure": f"{step} done", "inputs": inputs}
        return str(put_json(store, value))

    page = SimpleNamespace(path=str(tmp_path / "page"), metadata={})
    finish("RUNNING", "", settings, page)
    assert run_files.record().status == "FAILED"  # type: ignore[union-attr]
    steps = PIPELINES["data"]
    run_files.write_plan(RunPlan(run_id="run-1", pipeline="data", steps=steps, recipe="nano", recipe_digest="d"))
    finish("CANCELED", "", settings, page)
    assert run_files.record().status == "KILLED"  # type: ignore[union-attr]
    reused = record("encode", "run-0")
    run_files.note_step("report", record("report", "run-1", encode=reused), "x")
    finish("COMPLETE", "", settings, page)
    found = run_files.record()
    assert found is not None
    assert found.status == "FINISHED"
    made = found.steps["encode"].product
    assert found.dataset == RunDataset(reference=made, name="films", digest="d")
    assert {step: (each.status, each.from_run) for step, each in found.steps.items()} == {
        "encode": ("reused", "run-0"),
        "report": ("succeeded", ""),
    }
    assert "encode done" in Path(page.path).read_text()
