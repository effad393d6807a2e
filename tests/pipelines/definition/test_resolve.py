"""`resolve`: one job per step, and a change touches the job of its own step alone."""

from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.context import StepResult
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.keys import store_result
from zoetrope.infra.references import Reference
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps import StepJob
from zoetrope.infra.store import open_store, put_json
from zoetrope.pipelines.definition.inputs import RunInputs
from zoetrope.pipelines.definition.resolve import resolve, resolve_jobs
from zoetrope.pipelines.definition.step_table import STEPS
from zoetrope.pipelines.definition.user_files import user_files
from zoetrope.pipelines.recipe.recipe import load_recipe


def jobs(*overrides: str, run: str = "a") -> dict[str, str]:
    inputs = RunInputs("\n".join(overrides))
    return dict(zip((*STEPS, "dataset"), resolve("nano", inputs, Settings(run_id=run)), strict=True))


def changed(first: dict[str, str], second: dict[str, str]) -> set[str]:
    return {name for name in first if first[name] != second[name]}


def test_jobs_are_complete_and_repeat() -> None:
    assert changed(jobs(), jobs()) == set()
    assert changed(jobs(run="a"), jobs(run="b")) == {"report"}
    for name, text in list(jobs().items())[:-1]:
        job = StepJob.model_validate_json(text)
        assert (job.step, bool(job.operators), bool(job.libraries)) == (name, STEPS[name].cached, STEPS[name].cached)


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("stages.stage_3.steps=240", {"stage_3"}),
        ("model.mmdit.depth=3", {"stage_1", "stage_2", "stage_3"}),
        ("curate.filters.motion.minimum=0.5", {"curate"}),
        ("source.samples.seed=8", {"ingest"}),
        ("budget_usd=2", {"promote"}),
    ],
)
def test_a_change_touches_its_own_step(override: str, steps: set[str]) -> None:
    assert changed(jobs(), jobs(override)) - {"report"} == steps


def test_another_place_of_the_same_footage_is_no_change_and_other_bytes_are(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "film.mp4").write_bytes(b"1")

    def key(folder: Path) -> str:
        source = f"source={{folder: {folder}, licence: CC0-1.0, rights: ours}}"
        parts = resolve_jobs(load_recipe("nano", [source]), Settings(store=str(tmp_path / "store")))["ingest"].parts({})
        assert parts is not None
        return parts.digest()

    first = key(tmp_path / "a")
    assert key(tmp_path / "b") == first
    (tmp_path / "b" / "film.mp4").write_bytes(b"2")
    assert key(tmp_path / "b") != first
    (tmp_path / "a" / "film.txt").write_text("a caption")
    assert key(tmp_path / "a") != first
    with pytest.raises(ZoetropeError, match=r"source\.folder: there is no folder"):
        key(tmp_path / "nowhere")


def test_released_weights_are_part_of_the_cache_key(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    path.write_bytes(b"1")
    override = f"autoencoder.pretrained={path}"
    first = jobs(override)
    assert changed(first, jobs(override)) == set()
    path.write_bytes(b"2")
    assert changed(first, jobs(override)) == {"autoencoder"}
    with pytest.raises(ZoetropeError, match=r"autoencoder\.pretrained: there is no file"):
        jobs("autoencoder.pretrained=/nowhere.safetensors")


def test_buckets_follow_the_autoencoders_rule() -> None:
    with pytest.raises(ZoetropeError, match="48px_18f: 18 frames: autoencoder dc_ae takes 1 frame or a multiple of 4"):
        load_recipe("nano", ["encode.buckets=[{height: 48, width: 48, frames: 18, fps: 8}]"])
    causal = ["autoencoder.kind=hunyuan_video", "autoencoder.pretrained=/vae.safetensors"]
    with pytest.raises(ZoetropeError, match=r"48px_16f: 16 frames: autoencoder hunyuan_video .* the nearest is 17"):
        load_recipe("nano", causal)
    load_recipe("nano", [*causal, "encode.buckets=[{height: 48, width: 48, frames: 17, fps: 8}]"])


def test_a_source_is_exactly_one_kind() -> None:
    with pytest.raises(ZoetropeError, match="exactly one of folder, samples, s3"):
        load_recipe("nano", ["source.folder=/videos"])
    load_recipe("nano", ["source={folder: /videos, licence: CC0-1.0}"])


def test_a_changed_file_of_lpips_weights_changes_the_autoencoders_job_alone(tmp_path: Path) -> None:
    path = tmp_path / "lpips.safetensors"
    override = f"autoencoder.training.losses.perceptual={{weights: {path}}}"
    with pytest.raises(ZoetropeError, match=r"losses\.perceptual\.weights: there is no file"):
        jobs(override)
    made = []
    for content in (b"1", b"2", b"1"):
        path.write_bytes(content)
        made.append(jobs(override))
    assert changed(made[0], made[1]) == {"autoencoder"}
    assert changed(made[0], made[2]) == set()


def test_a_training_of_the_autoencoder_goes_by_name_in_a_recipe_and_in_an_override(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: nano\nautoencoder:\n  training: open_sora_2_autoencoder\n")
    by_recipe = load_recipe(str(recipe), ["autoencoder.training.batch_size=16"]).autoencoder.training
    assert (by_recipe.steps, by_recipe.batch_size, by_recipe.precision) == (450_000, 16, "bfloat16")
    by_override = load_recipe("nano", ["autoencoder.training=open_sora_2_autoencoder"]).autoencoder.training
    assert by_override.losses == by_recipe.losses
    with pytest.raises(ZoetropeError, match="unknown autoencoder training 'nano_stage_1'") as caught:
        load_recipe("nano", ["autoencoder.training=nano_stage_1"])
    assert "open_sora_2_autoencoder" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "headline", "hint"),
    [
        ("adversarial={strat: 3}", "unknown key autoencoder.training.losses.adversarial.strat", "did you mean 'start'"),
        ("adversarial=some", "autoencoder.training.losses.adversarial must be a dictionary", ""),
        ("adversarial={weight: 0}", "losses.adversarial must be weight has to be positive, not 0", "none"),
        ("adversarial.start=3", "autoencoder.training.losses.adversarial has no keys below it", "set autoencoder"),
        ("adversarial={start: 600}", "start has to be below steps (600), not 600", ""),
        ("reconstruction=l2", "must be 'mean' or 'frame_sum', not 'l2'", ""),
    ],
)
def test_wrong_losses_are_named(value: str, headline: str, hint: str) -> None:
    with pytest.raises(ZoetropeError) as caught:
        load_recipe("nano", [f"autoencoder.training.losses.{value}"])
    assert headline in caught.value.headline
    assert hint in f"{caught.value.headline} {caught.value.hint}"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.pretrained=/gone.safetensors", "model.pretrained"),
        ("autoencoder.pretrained=/gone.safetensors", "autoencoder.pretrained"),
        ("encode.text={kind: folders, t5_folder: /gone, clip_folder: /gone}", "encode.text.t5_folder"),
    ],
)
def test_files_that_are_not_there_are_named_before_the_run(override: str, key: str) -> None:
    with pytest.raises(ZoetropeError, match=f"{key}: there is no file or folder /gone"):
        user_files(load_recipe("nano", [override]))


def test_other_first_weights_are_another_stage_1_and_other_encoders_another_encode(tmp_path: Path) -> None:
    weights = tmp_path / "flux.safetensors"
    keys = set()
    for content in (b"a", b"b"):
        weights.write_bytes(content)
        found = resolve_jobs(load_recipe("nano", [f"model.pretrained={weights}"]), Settings())
        keys.add(found["stage_1"].content["model.pretrained"])
        assert not found["stage_2"].content
        assert "pretrained" in found["stage_1"].neutral  # another place is no other content
    assert len(keys) == 2
    for content in (b"a", b"b"):
        (tmp_path / "t5").mkdir(exist_ok=True)
        (tmp_path / "t5" / "model.safetensors").write_bytes(content)
        text = f"encode.text={{kind: folders, t5_folder: {tmp_path / 't5'}, clip_folder: {tmp_path / 't5'}}}"
        keys.add(resolve_jobs(load_recipe("nano", [text]), Settings())["encode"].content["encode.text.t5_folder"])
    assert len(keys) == 4


def test_what_is_known_names_the_run_that_made_it_and_what_follows_from_something_new_does_not(tmp_path: Path) -> None:
    """KFP's cache keys a job's text: it answers for results that are whole, and for nothing else."""
    store = open_store(tmp_path)

    def origins(run: str, **more: Any) -> dict[str, str]:
        found = resolve("nano", RunInputs(), Settings(run_id=run, store=store.root, **more))
        jobs = [StepJob.model_validate_json(text) for text in found[:-1]]
        return {job.step: job.origin for job in jobs}

    def made(step: str, run: str, inputs: dict[str, str]) -> str:
        parts = resolve_jobs(load_recipe("nano"), Settings())[step].parts(inputs)
        assert parts is not None
        product = put_json(store, {"schema": step})
        store_result(store, parts, run, str(put_json(store, {"step": step})), StepResult(product))
        return str(product)

    assert set(origins("b").values()) == {"b"}
    sources = made("ingest", "a", {})
    clips = made("curate", "a2", {"sources": sources})
    expected = dict.fromkeys(STEPS, "b") | {"ingest": "a", "curate": "a2"}
    assert origins("b") == expected
    assert set(origins("b", fresh=True).values()) == {"b"}
    store.delete(Reference.parse(clips).uri)
    assert origins("b") == expected | {"curate": "b"}
