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
from zoetrope.model.data.loader import LatentBatch
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.training.autoencoder import latent_statistics, to_pixels, train_autoencoder
from zoetrope.model.training.config import AutoencoderTrainingConfig, OptimizerConfig, StageConfig
from zoetrope.model.training.diffusion import FlowObjective, drop_text, train_diffusion
from zoetrope.model.training.loop import Resume
from zoetrope.model.training.optimizer import learning_rate
from zoetrope.model.training.process_group import ProcessGroup, batch_indices, generator_for

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

    def batch(self, indices):
        kinds = torch.tensor([index % 2 for index in indices]).float()
        latent = (2 * kinds - 1).view(-1, 1, 1, 1, 1).expand(-1, 2, 2, 4, 4)
        text = torch.nn.functional.one_hot(kinds.long(), 4).float()
        frame = latent[:, :, :1]
        length = torch.full((len(indices),), 2)
        ends = {"head": frame, "tail": frame}
        return LatentBatch(latent, ends, text[:, None].expand(-1, 2, -1), length, text, (), ())


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


def run(stage=STAGE, sink=None, resume=None):
    model = MMDiT(replace(MMDIT, cond_embed=stage.takes_images)).initialise(0)
    return train_diffusion(model, Latents(), stage, FlowConfig(), ALONE, sink or Recorder(), resume)


def test_the_loss_falls_and_metrics_arrive():
    sink = Recorder()
    result = run(sink=sink)
    assert [step for step, _ in sink.metrics] == [10, 20, 30, 40, 50, 60]
    assert set(sink.metrics[0][1]) == {"loss", "gradient_norm", "learning_rate", "samples_per_second"}
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
    resume = Resume(tmp_path, "digest")
    with pytest.raises(KeyboardInterrupt):
        run(sink=Recorder(stop_at=40), resume=resume)
    if damaged:
        newest = sorted(tmp_path.glob("step-*"))[-1]
        (newest / "model.safetensors").write_bytes(b"half a file")
    resumed = run(resume=resume)
    assert resumed.resumed_at == (28 if damaged else 35)
    assert all(torch.equal(undisturbed.weights[name], tensor) for name, tensor in resumed.weights.items())
    losses = [(step, value) for step, value in undisturbed.curve["loss"] if step > 40]
    assert [point for point in resumed.curve["loss"] if point[0] > 40] == losses


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(sink=Recorder(stop_at=40), resume=Resume(tmp_path, "digest"))
    assert run(resume=Resume(tmp_path, "other digest")).resumed_at == 0


class Recording(torch.nn.Module):
    """Notes what the model is called with; predicts 0 so that the loss is the target's square."""

    def __init__(self, config):
        super().__init__()
        self.config, self.calls = config, []
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, img, img_ids, txt, txt_ids, timesteps, y_vec, *, cond, txt_len):
        self.calls.append({"img": img, "times": timesteps, "cond": cond, "txt_len": txt_len})
        return img * self.weight


class ReferencedLatents(Latents):
    """Four latent frames with references of two; the given frames are worth 100, the others 0."""

    def batch(self, indices):
        batch = super().batch(indices)
        latent = torch.zeros(len(indices), 2, 4, 4, 4)
        latent[:, :, 0] = 100
        ends = {"head": latent[:, :, :1], "tail": latent[:, :, -1:], "head_short": latent[:, :, :2]}
        return replace(batch, latent=latent, references=ends)


def objective(data, stage, rank=0, world=1):
    return FlowObjective(MMDIT, data, stage, FlowConfig(), ProcessGroup(rank, world))


@pytest.mark.parametrize(("kind", "given"), [("i2v_head", 1), ("v2v_head", 2), ("i2v_loop", 2), ("t2v", 0)])
def test_given_frames_can_be_left_out_of_the_loss(kind, given):
    stage = replace(STAGE, conditions={kind: 1.0, "i2v_tail": 0.0})
    losses = {}
    for exclude in (False, "samples", "elements"):
        model = Recording(MMDIT)
        losses[exclude] = objective(ReferencedLatents(), replace(stage, exclude_given_frames=exclude))(model, 0).item()
    mask = model.calls[0]["cond"].view(4, 4, 4, 12)[..., 0]  # [B, frames, tokens of a frame]
    assert mask[:, :, 0].sum(dim=1).tolist() == [given] * 4
    assert losses[False] > 2000  # one frame of four is 100 off
    assert (losses["samples"] < 2) == (given > 0)
    # as many frames are left in each sample
    assert losses["samples"] == pytest.approx(losses["elements"], rel=1e-5)
    if not given:
        assert losses["samples"] == pytest.approx(losses[False], rel=1e-5)


def test_the_model_reads_the_time_as_the_flow_says():
    seen = {}
    for precision, half in itertools.product(("float32", "released"), ("float32", "bfloat16")):
        model = Recording(MMDIT)
        flow = FlowConfig(time_precision=precision)
        FlowObjective(MMDIT, Latents(), replace(STAGE, precision=half), flow, ProcessGroup())(model, 0)
        seen[precision, half] = model.calls[0]["times"].dtype
    assert seen.pop(("released", "bfloat16")) == torch.bfloat16
    assert set(seen.values()) == {torch.float32}


def test_ranks_draw_their_own_times_noise_and_conditions():
    stage = replace(STAGE, batch_size=16, conditions={"t2v": 1.0, "i2v_head": 1.0})
    calls = []
    for rank in (0, 1):
        model = Recording(MMDIT)
        objective(ReferencedLatents(), stage, rank, 2)(model, 0)
        calls += model.calls
    assert not (calls[0]["times"] == calls[1]["times"]).any()
    assert not torch.equal(calls[0]["img"], calls[1]["img"])
    assert not torch.equal(calls[0]["cond"].flatten(1).any(1), calls[1]["cond"].flatten(1).any(1))


def test_conditions_that_do_not_fit_are_not_drawn_and_stay_configured():
    stage = replace(STAGE, conditions={"v2v_head_easy": 5.0, "i2v_head": 1.0})
    before = dict(stage.conditions)
    model = Recording(MMDIT)
    objective(ReferencedLatents(), stage)(model, 0)
    assert stage.conditions == before
    assert model.calls[0]["cond"].view(4, 4, 4, 12)[:, 0, 0, 0].tolist() == [1, 1, 1, 1]


def test_padded_text_goes_in_without_lengths():
    """Every caption and the empty one have the same length: nothing is masked."""

    class Padded(Latents):
        null_t5 = torch.zeros(2, 4)

    for data, masked in ((Padded(), False), (Latents(), True)):
        model = Recording(MMDIT)
        objective(data, replace(STAGE, text_dropout=0.9))(model, 0)
        assert (model.calls[0]["txt_len"] is not None) == masked


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
    with pytest.raises(ValueError, match=r"gradient is not finite in step \d+ .*lower the learning rate"):
        run(wild)


def test_stage_and_model_have_to_agree_on_images():
    with pytest.raises(ValueError, match="disagree"):
        train_diffusion(MMDiT(MMDIT), Latents(), replace(STAGE, conditions={"t2v": 1}), FlowConfig(), ALONE, Recorder())


def test_text_is_dropped_independently():
    data = Latents()
    batch = data.batch([index % 6 for index in range(4000)])
    t5, length, clip = drop_text(batch, torch.full((1, 4), 9.0), torch.full((4,), 9.0), 0.3, generator_for(0, 0, 0))
    without_t5, without_clip = (t5[:, 0] == 9).all(1), (clip == 9).all(1)
    assert without_t5.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (without_t5 & without_clip).float().mean() == pytest.approx(0.09, abs=0.02)
    assert torch.equal(length, torch.where(without_t5, 1, 2))
    assert not t5[without_t5][:, 1:].any()
    assert torch.equal(t5[~without_t5], batch.t5[~without_t5])


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
