"""Weights on disk: safetensors of every header length, pickles refused."""

from pathlib import Path

import pytest
import torch

from zoetrope.model.checkpoint import read_weights, save_weights


def test_every_header_length_is_read(tmp_path: Path) -> None:
    lengths = set()
    for count in range(1, 40):
        tensors = {f"{'x' * 8}{index}": torch.full((1,), float(index)) for index in range(count)}
        path = save_weights(tensors, tmp_path / f"{count}.safetensors")
        lengths.add(path.read_bytes()[0])
        assert read_weights(path).keys() == tensors.keys()
    assert 0x80 in lengths, "the first byte of a pickle has to occur among the headers"


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    for number, modern in enumerate((True, False)):
        path = tmp_path / f"{number}.safetensors"
        torch.save({"x": torch.zeros(1)}, path, _use_new_zipfile_serialization=modern)
        with pytest.raises(ValueError, match="pickled"):
            read_weights(path)
