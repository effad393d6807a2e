"""Weights and stages on disk."""

from dataclasses import asdict

import pytest
import torch
from torch import nn

from zoetrope.model.checkpoint import load_weights, make_config, read_weights, save_weights
from zoetrope.model.flow import FlowConfig
from zoetrope.model.stages import (
    autoencoder_training,
    autoencoder_training_names,
    load_stage,
    stage_config,
    stage_names,
)


def test_weights_survive_and_bytes_depend_on_values_alone(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = model.state_dict()
    first = save_weights(model, tmp_path / "a.safetensors")
    second = save_weights(dict(reversed(state.items())), tmp_path / "b.safetensors")
    assert first.read_bytes() == second.read_bytes()
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    load_weights(other, first)
    assert all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused(tmp_path, zipped):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="pickled checkpoint"):
        read_weights(path)


def test_damage_is_named(tmp_path):
    path = save_weights({"a": torch.ones(100)}, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        read_weights(path)


def test_what_does_not_fit_is_named(tmp_path):
    path = save_weights({"weight": torch.ones(3, 2), "extra": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(bias.*1 unexpected \(extra.*weight is \[3, 2\]"):
        load_weights(nn.Linear(3, 2), path)


def test_only_named_parts_may_be_missing(tmp_path):
    path = save_weights({"0.weight": torch.full((1, 1), 7.0)}, tmp_path / "a.safetensors")
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    before = model[1].weight.clone()
    load_weights(model, path, may_miss=["1."])
    assert model[0].weight.item() == 7
    assert torch.equal(model[1].weight, before)
    with pytest.raises(ValueError, match="missing"):
        load_weights(model, path, may_miss=["2."])


def test_configs_from_json_are_checked():
    assert make_config(FlowConfig, {"shift": 2.0}) == FlowConfig(shift=2.0)
    with pytest.raises(ValueError, match=r"FlowConfig has no field 'sigma'; did you mean 'sigma_min'\?"):
        make_config(FlowConfig, {"sigma": 1})


def test_every_stage_in_the_folder_is_valid():
    assert {"nano_stage_1", "nano_stage_2", "nano_stage_3"} <= set(stage_names())
    for name in stage_names():
        assert stage_config(load_stage(name)) == stage_config(name)


def test_open_sora_stages_carry_the_published_numbers():
    first, second, third = (stage_config(f"open_sora_2_stage_{number}") for number in (1, 2, 3))
    assert (first.steps, second.steps, third.steps) == (85_000, 13_000, 13_000)
    assert first.optimizer.drops == {40_000: 3e-5}
    assert not first.takes_images
    assert second.conditions == {"t2v": 1, "i2v_head": 5, "i2v_loop": 1, "i2v_tail": 1}
    assert third.optimizer.learning_rate == 1e-5


def test_unknown_stages_and_keys_are_named():
    with pytest.raises(ValueError, match="did you mean 'nano_stage_1'"):
        load_stage("nano_stage1")
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        stage_config({**load_stage("nano_stage_1"), "stepz": 1})
    with pytest.raises(ValueError, match="unknown condition"):
        stage_config({**load_stage("nano_stage_1"), "conditions": {"t2x": 1}})


def test_every_autoencoder_training_in_the_folder_is_valid():
    assert set(autoencoder_training_names()).isdisjoint(stage_names())
    for name in autoencoder_training_names():
        assert autoencoder_training(asdict(autoencoder_training(name))) == autoencoder_training(name)


def test_the_open_sora_autoencoder_carries_the_published_numbers():
    training = autoencoder_training("open_sora_2_autoencoder")
    game = training.losses.adversarial
    assert (game.start, training.steps - game.start, training.batch_size) == (250_000, 200_000, 8)
    assert (training.optimizer.learning_rate, game.optimizer.learning_rate) == (5e-5, 1e-4)
    assert (training.optimizer.betas, training.optimizer.ema_decay) == ((0.9, 0.999), 0.99)
    assert (training.losses.perceptual.weight, game.weight, training.image_probability) == (0.5, 0.05, 0.2)


def test_unknown_autoencoder_trainings_and_keys_are_named():
    with pytest.raises(ValueError, match="did you mean 'open_sora_2_autoencoder'"):
        autoencoder_training("open_sora_autoencoder")
    values = asdict(autoencoder_training("open_sora_2_autoencoder"))
    values["losses"]["adversarial"]["strat"] = 1
    with pytest.raises(ValueError, match=r"AdversarialConfig has no field 'strat'; did you mean 'start'\?"):
        autoencoder_training(values)
