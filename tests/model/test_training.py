"""Training loops: order, schedule, learning, resuming."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from zoetrope.model.autoencoders import DCAEConfig
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.data import DamagedDataError, LatentSample
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.training.autoencoder import latent_statistics, to_pixels, train_autoencoder
from zoetrope.model.training.checkpoints import Identity, LocalCheckpointStore
from zoetrope.model.training.config import AutoencoderTrainingConfig, GuardConfig, OptimizerConfig, StageConfig
from zoetrope.model.training.diffusion import FlowObjective, train_diffusion
from zoetrope.model.training.loop import Resume
from zoetrope.model.training.loop import train as loop_train
from zoetrope.model.training.optimizer import learning_rate
from zoetrope.model.training.process_group import ProcessGroup, batch_indices, generator_for
from zoetrope.model.training.samples import draw_samples, make_pack

ALONE = ProcessGroup()
MMDIT = MMDiTConfig(
    in_channels=8, vec_in_dim=4, context_in_dim=4, hidden_size=24, num_heads=2, depth=1, depth_single_blocks=1,
    axes_dim=(4, 4, 4), mlp_ratio=2,
)  # fmt: skip
STAGE = StageConfig(
    steps=60, batch_size=4, log_every=10, save_every=7, conditions={"t2v": 1, "i2v_head": 1},
    optimizer=OptimizerConfig(learning_rate=5e-3, warmup_steps=5, decay="cosine", ema_decay=0.9),
)  # fmt: skip


class Recorder:
    def __init__(self, stop_at=None):
        self.metrics, self.stop_at = [], stop_at

    def log(self, step, values):
        self.metrics.append((step, values))
        if step == self.stop_at:
            raise KeyboardInterrupt


class Latents:
    """Six samples whose latents are all of one of two kinds, distinguished by the text."""

    null_t5, null_clip = torch.zeros(1, 4), torch.zeros(4)

    def __len__(self):
        return 6

    def rows(self, bucket):
        return np.arange(len(self), dtype=np.int32)

    def clip_id(self, row):
        return f"clip-{row}"

    def fetch(self, samples):
        return [self.sample(row) for row, _ in samples]

    def sample(self, index):
        latent = torch.full((2, 2, 4, 4), 2.0 * (index % 2) - 1)
        text = torch.nn.functional.one_hot(torch.tensor(index % 2), 4).float()
        ends = {"head": latent[:, :1], "tail": latent[:, :1]}
        return LatentSample(index, "bucket", self.clip_id(index), "", latent, ends, text.expand(2, -1), text)


@dataclass
class Clips:
    frames: np.ndarray

    def __len__(self):
        return len(self.frames)

    def batch(self, indices):
        return self.frames[list(indices)]


def coloured_clips():
    rng = np.random.default_rng(0)
    return Clips(np.repeat(rng.integers(0, 256, (6, 4, 2, 2, 3), np.uint8), 4, axis=2).repeat(4, axis=3))


def resume_in(folder, digest="digest", **options):
    return Resume(LocalCheckpointStore(folder), Identity({"digest": digest}), **options)


def run(stage=STAGE, sink=None, resume=None):
    model = MMDiT(replace(MMDIT, cond_embed=stage.takes_images)).initialise(0)
    return train_diffusion(model, Latents(), stage, FlowConfig(), ALONE, sink or Recorder(), resume)


def test_the_loss_falls_and_metrics_arrive():
    sink = Recorder()
    result = run(sink=sink)
    assert [step for step, _ in sink.metrics] == [10, 20, 30, 40, 50, 60]
    assert set(sink.metrics[0][1]) >= {
        "loss", "gradient_norm", "learning_rate", "samples_per_second", "tokens_per_second", "goodput", "seconds_left",
        "wait/data", "loss/condition/t2v", "loss/condition/i2v_head", "loss/time/0.50-0.75",
    }  # fmt: skip
    assert sink.metrics[0][1]["loss"] > 1
    assert result.final_loss < 0.5 * sink.metrics[0][1]["loss"]
    assert result.curve["loss"][-1] == (60, result.final_loss)


def test_equal_runs_give_equal_weights_and_another_seed_gives_others():
    first, second, other = run(), run(), run(replace(STAGE, seed=1))
    assert all(torch.equal(first.weights[name], tensor) for name, tensor in second.weights.items())
    assert any(not torch.equal(first.weights[name], tensor) for name, tensor in other.weights.items())


@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_run_continues_to_the_same_weights(tmp_path, damaged):
    undisturbed = run()
    resume = resume_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(sink=Recorder(stop_at=40), resume=resume)
    if damaged:
        newest = max((tmp_path / "checkpoints").iterdir(), key=lambda folder: folder.name)
        next(newest.glob("rank-*.bin")).write_bytes(b"half a file")
    resumed = run(resume=resume)
    assert resumed.resumed_at == (28 if damaged else 35)
    assert all(torch.equal(undisturbed.weights[name], tensor) for name, tensor in resumed.weights.items())
    losses = [(step, value) for step, value in undisturbed.curve["loss"] if step > 40]
    assert [point for point in resumed.curve["loss"] if point[0] > 40] == losses


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(sink=Recorder(stop_at=40), resume=resume_in(tmp_path))
    assert run(resume=resume_in(tmp_path, "other")).resumed_at == 0


class Recording(torch.nn.Module):
    """Notes what the model is called with; predicts 0 so that the loss is the target's square."""

    def __init__(self, config):
        super().__init__()
        self.config, self.calls = config, []
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, img, img_ids, txt, txt_ids, timesteps, y_vec, cond, *, packed):
        self.calls.append(
            {"img": img[0], "times": timesteps, "cond": cond, "packed": packed, "txt": txt[0], "y": y_vec}
        )
        return img * self.weight


class ReferencedLatents(Latents):
    """Four latent frames with references of two; the given frames are worth 100, the others 0."""

    def sample(self, index):
        sample = super().sample(index)
        latent = torch.zeros(2, 4, 4, 4)
        latent[:, 0] = 100
        ends = {"head": latent[:, :1], "tail": latent[:, -1:], "head_short": latent[:, :2]}
        return replace(sample, latent=latent, references=ends)


def loss_of(model, data, stage, step=0, rank=0, world=1, flow=None):
    objective = FlowObjective(MMDIT, data, stage, flow or FlowConfig(), ProcessGroup(rank, world))
    return sum(loss() for loss in objective.losses(model, objective.prepare(step, frozenset()), step))


def given_tokens(call):
    """[samples, frames, tokens of a frame] of a recorded call with four latent frames."""
    return call["cond"].view(-1, 4, 4, 12)[..., 0]


@pytest.mark.parametrize(("kind", "given"), [("i2v_head", 1), ("v2v_head", 2), ("i2v_loop", 2), ("t2v", 0)])
def test_given_frames_can_be_left_out_of_the_loss(kind, given):
    stage = replace(STAGE, conditions={kind: 1.0, "i2v_tail": 0.0})
    losses = {}
    for exclude in (False, "samples", "elements"):
        model = Recording(MMDIT)
        losses[exclude] = loss_of(model, ReferencedLatents(), replace(stage, exclude_given_frames=exclude)).item()
    mask = given_tokens(model.calls[0])
    assert mask[:, :, 0].sum(dim=1).tolist() == [given] * 4
    assert losses[False] > 2000  # one frame of four is 100 off
    assert (losses["samples"] < 2) == (given > 0)
    # as many frames are left in each sample
    assert losses["samples"] == pytest.approx(losses["elements"], rel=1e-5)
    if not given:
        assert losses["samples"] == pytest.approx(losses[False], rel=1e-5)


def test_the_mean_over_samples_is_not_that_over_elements_where_they_differ_in_what_is_left():
    """Of each two frames of three elements' error 1 and 9: means of samples, or of all that is left."""
    drawn = draw_all(ReferencedLatents(), replace(STAGE, conditions={"i2v_head": 1.0}, exclude_given_frames="samples"))
    drawn = [replace(drawn[0], target=torch.ones_like(drawn[0].target)),
             replace(drawn[1], target=3 * torch.ones_like(drawn[1].target),
                     counted=torch.arange(len(drawn[1].noisy)) < 4)]  # fmt: skip
    counts = [int(sample.counted.sum()) for sample in drawn]
    assert counts == [12, 4]
    each = make_pack(drawn, "samples"), make_pack(drawn, "elements")
    found = [((pack.target.square().mean(1) * pack.counted) * pack.weight).sum().item() for pack in each]
    assert found == pytest.approx([1 + 9, 12 * 1 + 4 * 9])


def draw_all(data, stage):
    rows = range(len(data))
    samples = data.fetch([(row, "") for row in rows])
    return draw_samples(samples, [(0, row) for row in rows], stage, FlowConfig(), MMDIT, (data.null_t5, data.null_clip))


@pytest.mark.parametrize("exclude", ["samples", "elements"])
def test_not_even_a_nan_of_what_is_not_counted_reaches_the_loss_or_its_gradient(exclude):
    class Poisoned(Recording):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            given = given_tokens(self.calls[-1]).flatten()[None, :, None] > 0
            return torch.where(given, torch.full_like(out, float("nan")), out)

    model = Poisoned(MMDIT)
    stage = replace(STAGE, conditions={"i2v_head": 1.0}, exclude_given_frames=exclude)
    loss = loss_of(model, ReferencedLatents(), stage)
    loss.backward()
    assert loss.isfinite()
    assert model.weight.grad.isfinite()


def test_the_model_reads_the_time_as_the_flow_says():
    seen = {}
    for precision, half in itertools.product(("float32", "released"), ("float32", "bfloat16")):
        model = Recording(MMDIT)
        loss_of(model, Latents(), replace(STAGE, precision=half), flow=FlowConfig(time_precision=precision))
        seen[precision, half] = model.calls[0]["times"].dtype
    assert seen.pop(("released", "bfloat16")) == torch.bfloat16
    assert set(seen.values()) == {torch.float32}


def test_a_sample_is_the_same_whoever_takes_it():
    """Times, noise, conditions and texts of a step do not depend on the number of processes."""
    stage = replace(STAGE, conditions={"t2v": 1.0, "i2v_head": 1.0}, text_dropout=0.5)

    def step(world):
        rows = []
        for rank in range(world):
            model = Recording(MMDIT)
            loss_of(model, ReferencedLatents(), stage, 3, rank, world)
            (call,) = model.calls
            texts, images = (lengths.each for lengths in call["packed"])
            pieces = zip(
                call["times"].tolist(), call["img"].split(images), call["cond"][0].split(images),
                call["txt"].split(texts), call["y"], strict=True,
            )  # fmt: skip
            rows += [[time, *(piece.flatten().tolist() for piece in rest)] for time, *rest in pieces]
        return sorted(rows)

    assert step(1) == step(2) == step(4)
    assert len({row[0] for row in step(1)}) == 4


def test_each_epoch_draws_anew():
    stage = replace(STAGE, batch_size=6)
    times = []
    for step in (0, 1):
        model = Recording(MMDIT)
        loss_of(model, Latents(), stage, step)
        times.append(set(model.calls[0]["times"].tolist()))
    assert len(times[0]) == 6
    assert not times[0] & times[1]


@pytest.mark.parametrize("world", [2, 4])
def test_the_loss_of_a_step_is_the_mean_over_its_samples(world):
    stage = replace(STAGE, conditions={"t2v": 1.0, "i2v_head": 1.0})
    alone = loss_of(Recording(MMDIT), ReferencedLatents(), stage, 5).item()
    parts = [loss_of(Recording(MMDIT), ReferencedLatents(), stage, 5, rank, world).item() for rank in range(world)]
    assert sum(parts) / world == pytest.approx(alone, rel=1e-6)


def test_conditions_that_do_not_fit_are_not_drawn_and_stay_configured():
    stage = replace(STAGE, conditions={"v2v_head_easy": 5.0, "i2v_head": 1.0})
    before = dict(stage.conditions)
    model = Recording(MMDIT)
    loss_of(model, ReferencedLatents(), stage)
    assert stage.conditions == before
    assert given_tokens(model.calls[0])[:, 0, 0].tolist() == [1, 1, 1, 1]


def test_averaged_weights_are_handed_on():
    """Of two steps: 0.9 of the weights after the first and 0.1 of those after the second."""
    steady = replace(STAGE.optimizer, decay="constant")
    last = [
        run(replace(STAGE, steps=steps, optimizer=replace(steady, ema_decay=0))).weights.items() for steps in (1, 2)
    ]
    averaged = run(replace(STAGE, steps=2, optimizer=steady)).weights
    for (name, first), (_, second) in zip(*last, strict=True):
        torch.testing.assert_close(averaged[name], 0.9 * first + 0.1 * second, rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(first, second) for (_, first), (_, second) in zip(*last, strict=True))


def test_divergence_is_named():
    wild = replace(STAGE, optimizer=replace(STAGE.optimizer, learning_rate=1e30, warmup_steps=0))
    with pytest.raises(ValueError, match=r"training diverged: .*lower the learning rate"):
        run(wild)


class Broken(Latents):
    """Clip 4 is not what it should be."""

    def __init__(self, value):
        self.value = value

    def sample(self, index):
        sample = super().sample(index)
        return replace(sample, latent=sample.latent * self.value) if index == 4 else sample


@pytest.mark.parametrize("value", [math.nan, 1e3])
def test_a_broken_latent_costs_its_steps_is_named_and_then_left_out(tmp_path, value):
    told = []
    resume = resume_in(tmp_path, warn=told.append)
    stage = replace(STAGE, guards=GuardConfig(warm=4, repeats=2, skips=9), prefetch=1, log_every=1)
    model = MMDiT(MMDIT).initialise(0)
    result = train_diffusion(model, Broken(value), stage, FlowConfig(), ALONE, Recorder(), resume)
    assert result.skipped == 2
    assert all(tensor.isfinite().all() for tensor in result.weights.values())
    skipped = [line for line in told if "was skipped" in line]
    assert all(line.endswith("its samples: clip-4") for line in skipped)
    assert [line for line in told if "left out" in line] == [
        "sample clip-4 is left out from now on: it was in 2 skipped steps"
    ]


def test_training_goes_back_behind_what_broke_it_once(tmp_path):
    class BrokenSteps(FlowObjective):
        def losses(self, model, prepared, step):
            factor = math.nan if prepared[0].names in broken else 1.0
            return [lambda loss=loss: loss() * factor for loss in super().losses(model, prepared, step)]

    told, resume = [], resume_in(tmp_path)
    stage = replace(STAGE, batch_size=6, guards=GuardConfig(repeats=99, skips=3, window=10), save_every=5, log_every=1)
    model = MMDiT(MMDIT).initialise(0)
    plain = FlowObjective(MMDIT, Latents(), stage, FlowConfig(), ALONE)
    broken = {plain.prepare(position, frozenset())[0].names for position in (21, 22, 23)}
    objective = BrokenSteps(MMDIT, Latents(), stage, FlowConfig(), ALONE)
    result = loop_train(model, objective, stage, stage.optimizer, ALONE, Recorder(), replace(resume, warn=told.append))
    assert result.skipped == 3
    assert "training goes back to step 20 and on behind the samples up to step 24" in told


def test_a_damaged_clip_is_replaced_by_its_neighbour_and_named():
    class Damaged(Latents):
        def fetch(self, samples):
            found = [row for row, _ in samples if row in (2, 3)]
            if found:
                raise DamagedDataError("shard: a tensor does not match", rows=found, clip_ids=[f"clip-{found[0]}"])
            return super().fetch(samples)

    told = []
    stage = replace(STAGE, batch_size=6)
    objective = FlowObjective(MMDIT, Damaged(), stage, FlowConfig(), ALONE, warn=told.append)
    (pack,) = objective.prepare(0, frozenset())
    assert sorted(pack.names) == ["clip-0", "clip-1", "clip-4", "clip-4", "clip-4", "clip-5"]
    assert all("shard: a tensor does not match; left out from now on: clip-" in line for line in told)
    (again,) = objective.prepare(0, frozenset({"clip-4"}))
    assert sorted(again.names) == ["clip-0", "clip-1", "clip-5", "clip-5", "clip-5", "clip-5"]


def test_stage_and_model_have_to_agree_on_images():
    with pytest.raises(ValueError, match="disagree"):
        train_diffusion(MMDiT(MMDIT), Latents(), replace(STAGE, conditions={"t2v": 1}), FlowConfig(), ALONE, Recorder())


def test_text_is_dropped_independently():
    class Many(Latents):
        null_t5, null_clip = torch.full((1, 4), 9.0), torch.full((4,), 9.0)

        def __len__(self):
            return 4000

    samples = draw_all(Many(), replace(STAGE, text_dropout=0.3))
    without_t5 = torch.tensor([bool((sample.t5 == 9).all()) for sample in samples])
    without_clip = torch.tensor([bool((sample.clip == 9).all()) for sample in samples])
    assert without_t5.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (without_t5 & without_clip).float().mean() == pytest.approx(0.09, abs=0.02)
    assert {len(sample.t5) for sample, dropped in zip(samples, without_t5, strict=True) if dropped} == {1}
    assert {len(sample.t5) for sample, dropped in zip(samples, without_t5, strict=True) if not dropped} == {2}


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_sample_once_an_epoch_whatever_the_number_of_workers(world):
    seen = [
        index
        for step in range(6)
        for rank in range(world)
        for index in batch_indices(12, 4, step, 0, ProcessGroup(rank, world))
    ]
    assert Counter(seen) == dict.fromkeys(range(12), 2)
    assert sorted(seen[:4]) == sorted(batch_indices(12, 4, 0, 0, ALONE))
    assert seen[:12] != seen[12:]


def test_a_batch_divides_among_workers():
    with pytest.raises(ValueError, match="batch_size 5 does not divide among 2 workers"):
        batch_indices(12, 5, 0, 0, ProcessGroup(0, 2))


def test_random_numbers_differ_by_seed_step_and_rank():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({torch.rand(1, generator=generator_for(*key)).item() for key in keys}) == 4
    assert torch.equal(torch.rand(3, generator=generator_for(1, 2, 3)), torch.rand(3, generator=generator_for(1, 2, 3)))


def test_learning_rate_schedule():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, decay="cosine", final_ratio=0.1)
    rates = [learning_rate(config, step, 104) for step in (0, 3, 4, 54, 104)]
    assert rates == pytest.approx([0.25, 1, 1, 0.55, 0.1])
    paper = OptimizerConfig(learning_rate=5e-5, drops={40_000: 3e-5})
    assert [learning_rate(paper, step, 85_000) for step in (0, 39_999, 40_000, 84_999)] == [5e-5, 5e-5, 3e-5, 3e-5]


def test_the_autoencoder_learns_clips():
    config = AutoencoderTrainingConfig(
        steps=120,
        batch_size=3,
        log_every=60,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=20, decay="cosine"),
    )
    architecture = DCAEConfig(
        latent_channels=8, widths=(4, 24, 16), encoder_depths=(0, 0, 1), decoder_depths=(0, 0, 1),
        blocks=("ResBlock",) * 3, temporal=(True, False),
    )  # fmt: skip
    model, clips = VideoDCAE(architecture).initialise(0), coloured_clips()
    video = to_pixels(clips.frames)
    before = (model(video) - video).abs().mean().item()
    result = train_autoencoder(model, clips, config, ALONE, Recorder())
    model.load_state_dict(result.weights)
    assert (model(video) - video).abs().mean().item() < 0.8 * before
    mean, std = latent_statistics(model.eval(), clips)
    latent = model.encode(video)
    normal = (latent - torch.tensor(mean).view(1, -1, 1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(normal.mean((0, 2, 3, 4)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3, 4), correction=0), torch.ones(8), atol=1e-3, rtol=0)


def test_pixels_span_minus_one_to_one():
    video = to_pixels(np.array([0, 255, 51], np.uint8).reshape(1, 1, 1, 1, 3))
    assert video.shape == (1, 3, 1, 1, 1)
    assert video.flatten().tolist() == pytest.approx([-1, 1, -0.6])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: OptimizerConfig(learning_rate=0),
        lambda: OptimizerConfig(ema_decay=1),
        lambda: StageConfig(steps=0),
        lambda: StageConfig(text_dropout=1),
        lambda: AutoencoderTrainingConfig(image_probability=math.inf),
    ],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"have to be|has to be"):
        wrong()
