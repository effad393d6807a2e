"""What is exported is what `save_weights` writes, in one file or several; nothing half-written stays."""

import errno
import json

import pytest
import torch
from torch import nn

from zoetrope.model.checkpoint import read_weights, save_weights
from zoetrope.model.checkpoint.dtypes import DTYPES
from zoetrope.model.checkpoint.export import export_weights


def tensors():
    generator = torch.Generator().manual_seed(0)
    made = {
        f"{shape}.{name}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for name, dtype in DTYPES.items()
        for shape in ((), (3,), (2, 5), (0, 4))
    }
    return {**made, "ä.weight": torch.ones(2)}


def test_one_file_has_the_bytes_of_the_library(tmp_path):
    wanted = save_weights(tensors(), tmp_path / "wanted.safetensors").read_bytes()
    assert export_weights(tensors(), tmp_path / "x.safetensors").read_bytes() == wanted


def test_several_files_have_an_index_and_read_as_one(tmp_path):
    given = tensors()
    index = export_weights(given, tmp_path / "x.safetensors", max_bytes=60)
    assert index.name == "x.safetensors.index.json"
    files = sorted(path.name for path in tmp_path.glob("x-*"))
    assert files[0] == f"x-00001-of-{len(files):05d}.safetensors"
    assert len(files) > 3
    assert sorted(set(json.loads(index.read_text())["weight_map"].values())) == files
    read = read_weights(index)
    assert set(read) == set(given)
    assert all(torch.equal(read[name].double(), value.double()) for name, value in given.items())


def test_floats_are_cast_and_other_tensors_are_not(tmp_path):
    module = nn.BatchNorm1d(3)
    read = read_weights(export_weights(module, tmp_path / "x.safetensors", dtype=torch.bfloat16))
    assert read["weight"].dtype == read["running_mean"].dtype == torch.bfloat16
    assert read["num_batches_tracked"].dtype == torch.int64


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zoetrope.model.checkpoint.export.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export_weights(tensors(), tmp_path / "x.safetensors", max_bytes=60)
    assert list(tmp_path.iterdir()) == []


def test_what_safetensors_cannot_hold_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"a: safetensors has no torch\.complex32"):
        export_weights({"a": torch.zeros(1, dtype=torch.complex32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"exported as \*\.safetensors"):
        export_weights({}, tmp_path / "x.bin")
