"""The training steps: real jobs of two workers, and what they refuse."""

# One file of over 350 lines: its tests share one small world of films, captions and checkpoints, made below.

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pydantic import ValidationError

from zoetrope.components.train.clips import decode_clips, training_rows
from zoetrope.components.train.config import AutoencoderStepConfig, TrainStageConfig
from zoetrope.components.train.job import TrainingJob, local_app
from zoetrope.components.train.perceptual import with_stored_weights
from zoetrope.components.train.step import train_autoencoder, train_stage
from zoetrope.components.train.worker import train
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import get_json, open_store, put_content, put_file_content, put_json, put_table
from zoetrope.model.autoencoders import DCAEConfig, load_autoencoder
from zoetrope.model.checkpoint import load_weights, make_config, read_weights, save_weights
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.stages import load_stage
from zoetrope.model.training.config import (
    AdversarialConfig,
    AutoencoderTrainingConfig,
    LossesConfig,
    OptimizerConfig,
    PerceptualConfig,
    StageConfig,
)
from zoetrope.model.training.losses.perceptual import PerceptualDistance
from zoetrope.model.training.process_group import ProcessGroup
from zoetrope.model.video import write_video

AUTOENCODER = AutoencoderStepConfig(
    architecture=DCAEConfig(
        latent_channels=4,
        widths=(4, 24, 8),
        encoder_depths=(0, 0, 1),
        decoder_depths=(0, 0, 1),
        blocks=("ResBlock",) * 3,
        temporal=(True, False),
    ),
    training=AutoencoderTrainingConfig(steps=4, batch_size=2, log_every=2),
    height=16,
    width=16,
    frames=4,
    fps=8,
)
STAGE = StageConfig(
    bucket="16px_4f",
    steps=4,
    batch_size=2,
    log_every=2,
    save_every=2,
    conditions={"t2v": 1, "i2v_head": 1},
    optimizer=OptimizerConfig(learning_rate=1e-3, ema_decay=0.5),
)
# clip, film, start, end, split: the third is too short, the last is held out
CLIPS = (
    ("c1", "good", "0", "1", "train"),
    ("c0", "good", "1", "2", "train"),
    ("c2", "good", "0", "1/4", "train"),
    ("c3", "broken", "0", "1", "train"),
    ("c4", "good", "1/2", "3/2", "held_out"),
)


class World:
    """A store with captioned clips of two films, one of which cannot be decoded."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "store")
        frames = np.random.default_rng(0).integers(0, 256, (48, 1, 1, 3), np.uint8)
        film = write_video(folder / "film.mp4", np.broadcast_to(frames, (48, 32, 32, 3)), 24)
        self.films = {"good": str(put_file_content(self.store, film))}
        self.films["broken"] = str(put_content(self.store, film.read_bytes()[:300], ".mp4"))
        self.context = StepContext("autoencoder", self.store, folder / "work", folder / "run", resume=folder / "resume")

    def captions(self, clips=CLIPS) -> str:
        rows = [
            {"clip_id": clip, "video": self.films[film], "start": start, "end": end,
             "crop_x": 0, "crop_y": 8, "crop_width": 32, "crop_height": 16}
            for clip, film, start, end, _ in clips
        ]  # fmt: skip
        texts = [{"clip_id": clip, "split": split} for clip, _, _, _, split in clips]
        table = put_table(self.store, pyarrow.Table.from_pylist(rows))
        product = {"schema": "zoetrope.clips.v1", "table": str(table)}
        captions = {
            "schema": "zoetrope.captions.v1",
            "table": str(put_table(self.store, pyarrow.Table.from_pylist(texts))),
            "clips": str(put_json(self.store, product)),
        }
        return str(put_json(self.store, captions))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def dataset_and_parent(checkpoint_store):
    store, reference = checkpoint_store
    checkpoint = get_json(store, reference)
    dataset = {**get_json(store, checkpoint["dataset"]), "autoencoder": checkpoint["autoencoder"]}
    return store, str(put_json(store, dataset)), reference


def stage_config(checkpoint_store, **changes):
    store, reference = checkpoint_store
    mmdit = make_config(MMDiTConfig, get_json(store, reference)["config"]["mmdit"])
    return TrainStageConfig(**{"name": "stage_2", "stage": STAGE, "mmdit": mmdit, **changes})


def outbox(context):
    return [json.loads(line) for line in context.outbox.read_text().splitlines()]


def test_autoencoder_job(world):
    result = train_autoencoder(AUTOENCODER, world.captions(), world.context)
    product = get_json(world.store, result.product)
    assert product["schema"] == "zoetrope.autoencoder.v1"
    assert product["training"]["clips"] == 2
    assert len(product["latent_mean"]) == len(product["latent_std"]) == 4
    weights = world.store.local_path(Reference.parse(product["weights"]).uri)
    model = load_autoencoder(product["kind"], product["config"], weights)
    assert model.encode(torch.zeros(1, 3, 4, 16, 16)).shape == (1, 4, 2, 4, 4)
    assert [(line["index"], sorted(line["values"])) for line in outbox(world.context)] == [
        (step, ["goodput", "gradient_norm", "learning_rate", "loss", "samples_per_second", "seconds_left", "wait/data"])
        for step in (2, 4)
    ]
    events = (world.context.run_directory / "events.jsonl").read_text()
    assert "decoding 3 clips" in events
    assert "step 4 of 4" in events
    curve = get_json(world.store, result.artifacts["curve"])
    assert [step for step, _ in curve["loss"]] == [2, 4]
    assert result.metrics["final_loss"] == curve["loss"][-1][1] == product["training"]["final_loss"]
    assert str(world.context.work) not in json.dumps(product)


def lpips_weights(path, scale=1.0):
    state = PerceptualDistance().state_dict()
    return save_weights({name: torch.full_like(tensor, 0.01 * scale) for name, tensor in state.items()}, path)


def with_losses(weights):
    game = AdversarialConfig(start=2, channels=2, layers=2)
    losses = LossesConfig("frame_sum", PerceptualConfig(weights), game)
    return AUTOENCODER.model_copy(update={"training": replace(AUTOENCODER.training, losses=losses)})


def test_autoencoder_job_of_both_phases(world, tmp_path):
    path = lpips_weights(tmp_path / "lpips.safetensors")
    result = train_autoencoder(with_losses(str(path)), world.captions(), world.context)
    product = get_json(world.store, result.product)
    weights = Reference.parse(product["training"]["losses"]["perceptual"]["weights"])
    assert world.store.read(weights.uri) == path.read_bytes()
    assert str(path) not in json.dumps(product)
    reported = [set(line["values"]) for line in outbox(world.context)]
    assert {"nll", "nll_rec", "nll_per"} < reported[0]
    assert reported[1] - reported[0] == {"gen", "gen_w", "disc"}
    error = outbox(world.context)[-1]["values"]["nll_rec"] / (3 * 16 * 16) / 2
    assert result.key_figure == f"mean absolute error {error:.3f} of the pixel range"
    assert result.parameters["losses.adversarial.optimizer.learning_rate"] == 1e-4
    assert result.parameters["losses.reconstruction"] == "frame_sum"


def test_the_weights_of_lpips_are_found_before_the_job_and_checked_in_it(world, tmp_path):
    for weights, found in (("", "it names no file"), ("/nowhere", "there is no file /nowhere")):
        with pytest.raises(ZoetropeError, match=rf"losses\.perceptual\.weights: {found}") as caught:
            train_autoencoder(with_losses(weights), world.captions(), world.context)
        assert "or set autoencoder.training.losses.perceptual to none" in caught.value.hint
    pickled = tmp_path / "vgg.pth"
    torch.save({"features.0.weight": torch.ones(1)}, pickled)
    with pytest.raises(ZoetropeError, match=r"ValueError: .* is a pickled checkpoint, which could run code"):
        train_autoencoder(with_losses(str(pickled)), world.captions(), world.context)


def test_other_weights_of_lpips_are_another_job(world, tmp_path):
    path = tmp_path / "lpips.safetensors"
    digests = []
    for scale in (1.0, 2.0, 1.0):
        config = with_stored_weights(with_losses(str(lpips_weights(path, scale))), world.store)
        digests.append(TrainingJob.of("autoencoder", config.model_dump(mode="json"), {}, world.context).digest)
    assert digests[0] == digests[2] != digests[1]
    assert with_stored_weights(AUTOENCODER, world.store) is AUTOENCODER


def test_stage_job_of_two_workers_from_a_parent(checkpoint_store, step_context):
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    config = stage_config(checkpoint_store)
    result = train_stage(config, dataset, parent, step_context)
    product = get_json(store, result.product)
    assert product["schema"] == "zoetrope.checkpoint.v1"
    assert (product["stage"], product["steps"], product["parent"]) == ("stage_2", 4, parent)
    assert (product["dataset"], product["text"]) == (dataset, str(put_json(store, get_json(store, dataset)["text"])))
    assert product["autoencoder"] == get_json(store, parent)["autoencoder"]
    model = MMDiT(make_config(MMDiTConfig, product["config"]["mmdit"]))
    path = store.local_path(Reference.parse(product["weights"]).uri)
    load_weights(model, path)
    before = read_weights(store.local_path(Reference.parse(get_json(store, parent)["weights"]).uri))
    after = read_weights(path)
    assert set(before) == set(after)
    assert not torch.equal(before["img_in.weight"], after["img_in.weight"])
    assert torch.allclose(before["img_in.weight"], after["img_in.weight"], atol=0.1)
    assert result.parameters["conditions.i2v_head"] == 1
    assert "<svg" in result.page


def alone(config, inputs, context):
    """The same job in this process, as a group of one."""
    context.work.mkdir(parents=True, exist_ok=True)
    job = TrainingJob.of("stage", config.model_dump(mode="json"), inputs, context)
    train(job)
    return json.loads(context.store.read(context.store.uri(job.result)))


def test_a_job_with_images_grows_out_of_a_text_to_video_parent(checkpoint_store, tmp_path):
    store, dataset, _ = dataset_and_parent(checkpoint_store)
    contexts = [StepContext(f"s{n}", store, tmp_path / f"w{n}", tmp_path / "run") for n in range(3)]
    text_only = replace(STAGE, conditions={"t2v": 1})
    first_config = stage_config(checkpoint_store, stage=text_only)
    first = alone(first_config, {"dataset": dataset, "parent": ""}, contexts[0])
    assert first["mmdit"]["cond_embed"] is False
    parent = str(put_json(store, {"weights": first["weights"], "config": {"mmdit": first["mmdit"]}}))
    second = alone(stage_config(checkpoint_store), {"dataset": dataset, "parent": parent}, contexts[1])
    assert second["mmdit"]["cond_embed"] is True
    again = alone(stage_config(checkpoint_store), {"dataset": dataset, "parent": parent}, contexts[2])
    assert again["weights"] == second["weights"] != first["weights"]


def test_the_first_stage_starts_from_a_file_of_weights(checkpoint_store, tmp_path):
    store, dataset, _parent = dataset_and_parent(checkpoint_store)
    config = stage_config(checkpoint_store)
    given = MMDiT(config.mmdit).initialise(9)
    with torch.no_grad():
        given.img_in.bias.fill_(5)
    path = save_weights(given, tmp_path / "given.safetensors")
    context = StepContext("s", store, tmp_path / "w", tmp_path / "run")
    config = stage_config(checkpoint_store, pretrained=str(path))
    product = get_json(store, train_stage(config, dataset, "", context).product)
    assert product["attention_backend"] == "sdpa"
    after = read_weights(store.local_path(Reference.parse(product["weights"]).uri))
    assert torch.allclose(after["img_in.bias"], torch.tensor(5.0), atol=0.1)
    with pytest.raises(ZoetropeError, match=r"model\.pretrained: there is no file"):
        train_stage(stage_config(checkpoint_store, pretrained="/gone"), dataset, "", context)


def test_a_stage_needs_its_bucket_its_channels_and_its_parent(checkpoint_store, step_context):
    _, dataset, parent = dataset_and_parent(checkpoint_store)
    wrong_bucket = stage_config(checkpoint_store, stage=replace(STAGE, bucket="99px_4f"))
    with pytest.raises(ZoetropeError, match="no bucket '99px_4f'") as caught:
        train_stage(wrong_bucket, dataset, parent, step_context)
    assert "16px_4f, 32px_8f" in caught.value.hint
    mmdit = stage_config(checkpoint_store).mmdit
    with pytest.raises(ZoetropeError, match="means 8 latent channels, the dataset's autoencoder has 4") as caught:
        train_stage(stage_config(checkpoint_store, mmdit=replace(mmdit, in_channels=32)), dataset, "", step_context)
    assert "set it to 16" in caught.value.hint
    with pytest.raises(ZoetropeError, match=r"mmdit\.depth is 2, the parent checkpoint has 1"):
        train_stage(stage_config(checkpoint_store, mmdit=replace(mmdit, depth=2)), dataset, parent, step_context)
    with pytest.raises(ZoetropeError, match="the parent checkpoint takes images"):
        without = stage_config(checkpoint_store, stage=replace(STAGE, conditions={"t2v": 1}))
        train_stage(without, dataset, parent, step_context)
    with pytest.raises(ZoetropeError, match=r"is not zoetrope\.dataset\.v1"):
        train_stage(stage_config(checkpoint_store), parent, "", step_context)


def test_a_stage_and_its_parent_have_to_speak_of_text_and_velocity_alike(checkpoint_store, step_context):
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    manifest = get_json(store, dataset)
    padded = str(put_json(store, manifest | {"text": manifest["text"] | {"mode": "padded"}}))
    with pytest.raises(ZoetropeError, match="text is padded, the parent checkpoint learned ragged") as caught:
        train_stage(stage_config(checkpoint_store), padded, parent, step_context)
    assert "released weights know padded text" in caught.value.hint and "text.mode ragged" in caught.value.hint
    with pytest.raises(
        ZoetropeError, match=r"flow\.velocity is paper, the parent checkpoint predicts released"
    ) as caught:
        config = stage_config(checkpoint_store, flow=FlowConfig(velocity="paper"))
        train_stage(config, dataset, parent, step_context)
    assert "opposite signs" in caught.value.hint


def test_video_to_video_needs_its_references_in_the_dataset(checkpoint_store, step_context):
    """A bucket of 8 frames is too short for them, which is no mistake; one of 64 has to hold them."""
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    stage = replace(STAGE, conditions={"t2v": 1, "v2v_head": 1}, bucket="32px_8f")
    manifest = get_json(store, dataset)
    for bucket in manifest["buckets"]:
        bucket["frames"] = 64 if bucket["name"] == "32px_8f" else bucket["frames"]
    longer = str(put_json(store, manifest))
    with pytest.raises(ZoetropeError, match="holds no short references in bucket '32px_8f'") as caught:
        train_stage(stage_config(checkpoint_store, stage=stage), longer, parent, step_context)
    assert "v2v" in caught.value.hint
    trained = alone(stage_config(checkpoint_store, stage=stage), {"dataset": dataset, "parent": parent}, step_context)
    assert trained["weights"]


def test_clips_are_decoded_once_and_bad_ones_left_out(world):
    world.context.work.mkdir()
    clips = decode_clips(AUTOENCODER, world.captions(), world.context, ProcessGroup())
    assert len(clips) == 2
    assert clips.batch([0, 1]).shape == (2, 4, 16, 16, 3)
    assert clips.frames.flags.writeable is False


def test_training_clips_are_in_order_of_their_identity(world):
    rows = training_rows(AUTOENCODER, world.captions(), world.store)
    assert [row["clip_id"] for row in rows] == ["c0", "c1", "c3"]
    few = AUTOENCODER.model_copy(update={"clips": 2})
    assert [row["clip_id"] for row in training_rows(few, world.captions(), world.store)] == ["c0", "c1"]


def test_nothing_to_train_on_is_named(world):
    world.context.work.mkdir()
    with pytest.raises(ZoetropeError, match=r"none of 1 training clips is longer than the 0\.38 s"):
        training_rows(AUTOENCODER, world.captions(CLIPS[2:3]), world.store)
    with pytest.raises(ZoetropeError, match="none of 1 clips could be decoded"):
        decode_clips(AUTOENCODER, world.captions(CLIPS[3:4]), world.context, ProcessGroup())
    with pytest.raises(ZoetropeError, match=r"is not zoetrope\.captions\.v1"):
        train_autoencoder(AUTOENCODER, str(put_json(world.store, {"schema": "x"})), world.context)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": {**load_stage("nano_stage_1"), "batch_size": 3}}, "multiple of the 2 data-parallel ranks"),
        ({"stage": {**load_stage("nano_stage_1"), "stepz": 3}}, "stage.stepz"),
        ({"stage": load_stage("nano_stage_1"), "mmdit": {"num_head": 2}}, "mmdit.num_head"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValidationError, match=message):
        TrainStageConfig.model_validate(change)
    with pytest.raises(ValidationError, match="6 frames: autoencoder dc_ae takes"):
        AutoencoderStepConfig(frames=6)


def test_the_digest_of_a_job_is_of_what_the_result_depends_on(world):
    config = AUTOENCODER.model_dump(mode="json")
    job = TrainingJob.of("autoencoder", config, {"captions": "a"}, world.context)
    elsewhere = replace(job, attempt=2, run_id="other", work="/elsewhere", state="/elsewhere")
    assert elsewhere.digest == job.digest
    assert replace(job, inputs={"captions": "b"}).digest != job.digest
    assert replace(job, config={**config, "fps": 4}).digest != job.digest
    assert TrainingJob.read(job.write(Path(world.store.directory, "job.json"))) == job


def test_the_job_runs_one_thread_a_worker(tmp_path):
    role = local_app("stage_1", tmp_path / "job.json", 3).roles[0]
    assert role.env["OMP_NUM_THREADS"] == "1"
    assert role.args[role.args.index("--nproc-per-node") + 1] == "3"
    assert role.args[-1] == str(tmp_path / "job.json")


def test_the_defaults_are_those_of_the_small_recipe():
    config = TrainStageConfig(stage=load_stage("nano_stage_1"))
    assert asdict(config.mmdit) == asdict(MMDiTConfig.nano())
    assert AutoencoderStepConfig().architecture.latent_channels == config.mmdit.latent_channels


@pytest.mark.parametrize("name", ["nano_stage_3", "open_sora_2_stage_1"])
def test_settings_survive_json(name):
    config = TrainStageConfig(stage=load_stage(name))
    assert TrainStageConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config
