"""The autoencoder's training with LPIPS and a discriminator: parts, phases, resuming, workers."""

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from zoetrope.model.autoencoders import DCAEConfig
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.training import loop
from zoetrope.model.training.autoencoder import AutoencoderObjective, last_weight, train_autoencoder
from zoetrope.model.training.checkpoints import Identity, LocalCheckpointStore
from zoetrope.model.training.config import (
    AdversarialConfig,
    AutoencoderTrainingConfig,
    LossesConfig,
    OptimizerConfig,
    PerceptualConfig,
)
from zoetrope.model.training.loop import Resume, StoppedError
from zoetrope.model.training.process_group import ProcessGroup

ALONE = ProcessGroup()
ARCHITECTURE = DCAEConfig(
    latent_channels=4, widths=(4, 24, 8), encoder_depths=(0, 0, 1), decoder_depths=(0, 0, 1),
    blocks=("ResBlock",) * 3, temporal=(True, False),
)  # fmt: skip
GAME = AdversarialConfig(start=4, channels=4, layers=2, optimizer=OptimizerConfig(learning_rate=2e-3, betas=(0.5, 0.9)))
TRAINING = AutoencoderTrainingConfig(
    steps=10, batch_size=2, log_every=1, image_probability=0.3, losses=LossesConfig(adversarial=GAME),
    optimizer=OptimizerConfig(learning_rate=1e-3, ema_decay=0.9),
)  # fmt: skip
NOT_AVERAGED = replace(TRAINING.optimizer, ema_decay=0.0)
PARTS = {"nll", "nll_rec"}
GAME_PARTS = {"gen", "gen_w", "disc"}
OF_CLOCKS = {"samples_per_second", "goodput", "seconds_left", "wait/data", "wait/checkpoint"}
ALWAYS = {"loss", "gradient_norm", "learning_rate", *OF_CLOCKS} - {"wait/checkpoint"}


class Recorder:
    def __init__(self, stop_at=None):
        self.metrics, self.stop_at = {}, stop_at

    def log(self, step, values):
        self.metrics[step] = dict(values)
        if step == self.stop_at:
            raise KeyboardInterrupt


@dataclass
class Clips:
    """Six clips of noise, which no autoencoder of this size can repeat."""

    frames: np.ndarray

    def __len__(self):
        return len(self.frames)

    def batch(self, indices):
        return self.frames[list(indices)]


CLIPS = Clips(np.random.default_rng(0).integers(0, 256, (6, 4, 16, 16, 3), np.uint8))


def train(config, resume=None, stop_at=None):
    sink = Recorder(stop_at)
    result = train_autoencoder(VideoDCAE(ARCHITECTURE).initialise(0), CLIPS, config, ALONE, sink, resume)
    return result, sink.metrics


def resume_in(folder):
    return Resume(LocalCheckpointStore(folder), Identity({}))


def with_losses(**changes):
    return replace(TRAINING, losses=replace(TRAINING.losses, **changes))


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_parts_of_the_loss_are_reported_by_phase_and_add_up(lpips_file):
    config = with_losses(perceptual=PerceptualConfig(str(lpips_file)))
    _, metrics = train(config)
    for step, values in metrics.items():
        is_active = step > GAME.start
        assert set(values) == ALWAYS | PARTS | {"nll_per"} | (GAME_PARTS if is_active else set())
        assert values["nll"] == pytest.approx(values["nll_rec"] + values["nll_per"], rel=1e-6)
        game = values["gen_w"] * values["gen"] if is_active else 0
        assert values["loss"] == pytest.approx(values["nll"] + game, rel=1e-5, abs=1e-6)


def test_the_absolute_error_alone_reports_what_it_always_did():
    _, metrics = train(with_losses(adversarial="none"))
    assert all(set(values) == ALWAYS for values in metrics.values())


def test_frame_sum_is_the_mean_times_the_values_of_a_frame(lpips_file):
    perceptual = PerceptualConfig(str(lpips_file))
    first = [
        train(replace(with_losses(reconstruction=kind, perceptual=perceptual, adversarial="none"), steps=1))[1][1]
        for kind in ("mean", "frame_sum")
    ]
    for name in ("loss", "nll", "nll_rec", "nll_per"):
        assert first[1][name] == pytest.approx(3 * 16 * 16 * first[0][name], rel=1e-5)


def test_before_its_start_the_discriminator_neither_learns_nor_teaches(tmp_path):
    stopped = VideoDCAE(ARCHITECTURE).initialise(0)
    objective = AutoencoderObjective(stopped, CLIPS, TRAINING, ALONE)
    fresh = {name: tensor.clone() for name, tensor in objective.adversary.discriminator.state_dict().items()}
    asked = iter([False] * 4 + [True])
    resume = replace(resume_in(tmp_path), stop=lambda: next(asked))
    with pytest.raises(StoppedError):
        loop.train(stopped, objective, TRAINING, NOT_AVERAGED, ALONE, Recorder(), resume, objective)
    without, _ = train(replace(with_losses(adversarial="none"), steps=4, optimizer=NOT_AVERAGED))
    assert equal(dict(stopped.state_dict()), without.weights)
    assert equal(dict(objective.adversary.discriminator.state_dict()), fresh)
    loop.train(stopped, objective, TRAINING, NOT_AVERAGED, ALONE, Recorder(), None, objective)
    assert not equal(dict(objective.adversary.discriminator.state_dict()), fresh)


def test_the_weight_of_the_game_is_fixed_or_adapts():
    _, metrics = train(with_losses(adversarial=replace(GAME, adaptive=False)))
    assert [values["gen_w"] for step, values in metrics.items() if step > 4] == pytest.approx([0.05] * 6)
    _, metrics = train(TRAINING)
    adapted = {values["gen_w"] for step, values in metrics.items() if step > 4}
    assert len(adapted) == 6
    assert all(0 < weight <= 0.05 * 1e4 for weight in adapted)


@pytest.mark.parametrize(("stop", "resumed_at"), [(4, 3), (8, 6)])
def test_a_killed_run_continues_to_the_same_weights_in_either_phase(tmp_path, stop, resumed_at):
    config = replace(TRAINING, save_every=3)
    undisturbed, metrics = train(config)
    resume = resume_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(config, resume, stop_at=stop)
    resumed, rest = train(config, resume)
    assert resumed.resumed_at == resumed_at
    assert equal(resumed.weights, undisturbed.weights)
    for step, values in rest.items():
        assert {name: values[name] for name in values if name not in OF_CLOCKS} == {
            name: metrics[step][name] for name in metrics[step] if name not in OF_CLOCKS
        }


def test_the_discriminator_tells_reconstructions_from_clips():
    optimizer = replace(GAME.optimizer, learning_rate=5e-3)
    game = replace(GAME, start=0, weight=1e-3, adaptive=False, optimizer=optimizer)
    config = replace(with_losses(adversarial=game), steps=120, log_every=10)
    _, metrics = train(config)
    assert metrics[10]["disc"] > 0.6
    assert metrics[120]["disc"] < 0.35


def test_bfloat16_computes_the_same_loss_less_exactly(lpips_file):
    # without a backward pass: that of a bfloat16 Conv3d is not always finite on CPUs (torch 2.13)
    game = replace(GAME, start=0, adaptive=False)
    config = with_losses(perceptual=PerceptualConfig(str(lpips_file)), adversarial=game)
    parts = []
    for precision in ("float32", "bfloat16"):
        model = VideoDCAE(ARCHITECTURE).initialise(0)
        objective = AutoencoderObjective(model, CLIPS, replace(config, precision=precision), ALONE)
        (loss,) = (loss() for loss in objective.losses(model, objective.prepare(0, frozenset()), 0))
        assert loss.dtype == torch.float32
        parts.append({name: term.item() for name, term in objective.terms().items()})
    assert parts[0].keys() == parts[1].keys()
    for name, value in parts[0].items():
        assert parts[1][name] == pytest.approx(value, rel=0.05, abs=0.05), name
    assert parts[0]["nll"] != parts[1]["nll"]


def test_the_last_weight_is_that_of_the_pixels():
    model = VideoDCAE(ARCHITECTURE)
    assert last_weight(model) is dict(model.named_parameters())["decoder.project_out.op_list.2.conv.weight"]


def test_weights_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"losses\.perceptual\.weights names no file: give .* `perceptual: none`"):
        train(with_losses(perceptual=PerceptualConfig()))


@pytest.mark.parametrize("start", [10, 11])
def test_a_game_that_never_starts_is_refused(start):
    with pytest.raises(ValueError, match=rf"start has to be below steps \(10\), not {start}"):
        with_losses(adversarial=replace(GAME, start=start))


TWO_WORKERS = """
import sys
from dataclasses import replace
import torch
import torch.distributed as dist
sys.path.insert(0, {folder!r})
import test_autoencoder_phases as phases
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.training.autoencoder import AutoencoderObjective, train_autoencoder
from zoetrope.model.training.config import LossesConfig, OptimizerConfig, PerceptualConfig
from zoetrope.model.training.loop import train
from zoetrope.model.training.losses.adversarial import adaptive_ratio
from zoetrope.model.training.process_group import ProcessGroup, join_process_group

def others_agree(tensor):
    first = tensor.clone()
    dist.broadcast(first, 0)
    return torch.equal(first, tensor)

with join_process_group() as workers:
    # the first phase has no batch statistics: two workers and one make the same of the same batches
    smooth = OptimizerConfig(learning_rate=1e-3, eps=1e-3)
    losses = LossesConfig(reconstruction="frame_sum", perceptual=PerceptualConfig({lpips!r}))
    config = replace(phases.TRAINING, steps=3, losses=losses, optimizer=smooth)
    results = []
    for who in (workers, ProcessGroup()):
        model = VideoDCAE(phases.ARCHITECTURE).initialise(0)
        results.append(train_autoencoder(model, phases.CLIPS, config, who, phases.Recorder()))
    for name, tensor in results[0].weights.items():
        torch.testing.assert_close(tensor, results[1].weights[name], rtol=1e-3, atol=1e-5)
    for name in ("nll", "nll_rec", "nll_per"):
        assert abs(results[0].curve[name][-1][1] / results[1].curve[name][-1][1] - 1) < 1e-4, name

    # the weight of the game is that of the whole batch
    batch = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(5, requires_grad=True)
    def ratio(samples, who):
        values = samples @ weight
        return adaptive_ratio(values.square().mean(), values.mean(), weight, who)
    torch.testing.assert_close(ratio(batch[workers.rank :: 2], workers), ratio(batch, ProcessGroup()))

    # the second phase: workers see other clips and stay alike
    config = phases.TRAINING
    model = VideoDCAE(phases.ARCHITECTURE).initialise(0)
    objective = AutoencoderObjective(model, phases.CLIPS, config, workers)
    before = objective.adversary.discriminator.parts[0].weight.clone()
    train(model, objective, config, config.optimizer, workers, phases.Recorder(), None, objective)
    assert not torch.equal(before, objective.adversary.discriminator.parts[0].weight)
    for module in (model, objective.adversary.discriminator):
        assert all(others_agree(parameter.detach()) for parameter in module.parameters())
    assert others_agree(objective.terms()["gen_w"])
    own_clips = not others_agree(objective.terms()["disc"])
    assert workers.first or own_clips
    print("all of it held")
"""


def test_two_workers(tmp_path, lpips_file, request):
    script = tmp_path / "two_workers.py"
    script.write_text(TWO_WORKERS.format(folder=str(request.path.parent), lpips=str(lpips_file)))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("all of it held") == 2
