"""Streamed loading: from files and shards, onto the meta device, into a sharded model, with little memory."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from zoetrope.model.checkpoint import WeightFiles, load_weights, read_weights, save_weights
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def write_shards(directory, state, count):
    names = sorted(state)
    files = {}
    for index in range(count):
        part = names[index::count]
        save_weights({name: state[name] for name in part}, directory / f"model-{index}.safetensors")
        files |= dict.fromkeys(part, f"model-{index}.safetensors")
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": files}))
    return path


def test_a_model_on_the_meta_device_is_filled_from_shards(tmp_path):
    source = MMDiT(MMDiTConfig.nano()).initialise(3)
    index = write_shards(tmp_path, source.state_dict(), 3)
    for path in (index, tmp_path):  # the index, or the folder that holds it
        with torch.device("meta"):
            model = MMDiT(MMDiTConfig.nano()).to(torch.bfloat16)
        load_weights(model, path)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, source.state_dict()[name].bfloat16()), name


def test_what_a_file_may_lack_is_zero_on_the_meta_device(tmp_path):
    text_only = MMDiT(MMDiTConfig.nano(cond_embed=False)).initialise(0)
    path = save_weights(text_only, tmp_path / "stage_1.safetensors")
    with torch.device("meta"):
        model = MMDiT(MMDiTConfig.nano())
    load_weights(model, path, may_miss=["cond_in."])
    assert not model.cond_in.weight.any()
    assert torch.equal(model.img_in.weight, text_only.img_in.weight)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 5), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]),
    rows=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_every_tensor_and_every_row_comes_back(tmp_path, shape, dtype, rows):
    tensor = (torch.arange(max(1, torch.Size(shape).numel())) % 7).to(dtype).reshape(shape)
    path = save_weights({"before": torch.ones(3), "x": tensor}, tmp_path / "x.safetensors")
    files = WeightFiles(path)
    assert files.shapes() == {"before": (3,), "x": tuple(shape)}
    assert torch.equal(files.read("x"), tensor)
    assert files.read("x").dtype == dtype
    if shape:
        first, last = sorted(rows)
        assert torch.equal(files.read("x", slice(first, last)), tensor[first:last])


def test_each_rank_of_a_sharded_model_takes_its_part(tmp_path):
    path = save_weights(MMDiT(MMDiTConfig.nano()).initialise(1), tmp_path / "nano.safetensors")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "sharded_load.py"), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "sharded load is exact" in done.stdout


@pytest.mark.parametrize("shards", [1, 4])
def test_memory_is_the_model_and_one_tensor(shards):
    measure = runpy.run_path(str(ROOT / "bench" / "loading.py"))["measure"]
    found = measure(hidden=768, shards=shards)
    assert found["growth"] > 0.9 * found["model"]
    slack = 30e6  # buffers of the allocator and of Python
    assert found["growth"] < found["model"] + found["largest"] + slack
    assert 2 * found["model"] > found["model"] + found["largest"] + 2 * slack, "a second copy would be noticed"


def test_a_file_cut_off_after_it_was_opened_is_named(tmp_path):
    path = save_weights({"x": torch.ones(1000)}, tmp_path / "x.safetensors")
    files = WeightFiles(path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match="ends within tensor x"):
        files.read("x")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "not an index of safetensors files"),
        ('{"weights": {}}', "not an index"),
        ('{"weight_map": {"x": "gone.safetensors"}}', "shard gone.safetensors is missing"),
        ('{"weight_map": {"x": "../outside.safetensors"}}', "does not lie beside its index"),
    ],
)
def test_a_bad_index_is_named(tmp_path, index, message):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    save_weights({"x": torch.ones(1)}, tmp_path.parent / "outside.safetensors")
    with pytest.raises(ValueError, match=message):
        read_weights(path)


def test_a_folder_without_weights_or_with_two_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected one .* found 0"):
        read_weights(tmp_path)
    for name in "ab":
        save_weights({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"expected one .* found 2"):
        load_weights(nn.Linear(1, 1), tmp_path)
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(tmp_path / "c.safetensors")
