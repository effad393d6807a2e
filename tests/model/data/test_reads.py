"""Ranges that are read: all of their bytes, neighbours together, headers kept up to a limit, every dtype."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.model.data.datasets import Objects
from zoetrope.model.data import DamagedDataError
from zoetrope.model.data.headers import DTYPES, Header, Headers, whole_tensor
from zoetrope.model.data.reads import JOINED_BYTES, Range, RangeReader, joined

SIZE = 60
RANGES = st.lists(
    st.builds(lambda u, s, n: Range(u, s, s + n), st.sampled_from("ab"), st.integers(0, 50), st.integers(0, 20))
)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    folder = tmp_path_factory.mktemp("objects")
    for name, first in (("a", 0), ("b", 100)):
        (folder / name).write_bytes(bytes(range(first, first + SIZE)))
    return Objects(folder)


@settings(max_examples=100, deadline=None)
@given(wanted=RANGES, local=st.booleans())
def test_each_range_gets_its_bytes_up_to_the_end(objects: Objects, wanted: list[Range], local: bool) -> None:
    reader = RangeReader(objects.read, (lambda uri: objects.folder / uri) if local else None, parallel=2)
    found = reader.fetch(wanted)
    reader.close()
    for each, data in zip(wanted, found, strict=True):
        first = 0 if each.uri == "a" else 100
        assert data.tobytes() == bytes(range(first + each.start, first + max(each.start, min(each.end, SIZE))))
        assert data.flags.writeable


@given(wanted=RANGES)
def test_no_byte_is_read_twice_and_none_that_was_not_asked_for(wanted: list[Range]) -> None:
    runs = joined(wanted)
    read = [(run.uri, at) for run in runs for at in range(run.start, run.end)]
    assert len(read) == len(set(read))
    assert set(read) == {(each.uri, at) for each in wanted for at in range(each.start, each.end)}
    assert all(one.uri != two.uri or one.end < two.start for one, two in pairwise(runs))


def test_a_long_stretch_is_cut_between_its_ranges() -> None:
    half = JOINED_BYTES // 2
    wanted = [Range("a", at * half, (at + 1) * half) for at in range(5)]
    assert [(run.end - run.start) // half for run in joined(wanted)] == [2, 2, 1]


def test_a_file_that_is_not_there_is_the_ports_to_explain(tmp_path: Path) -> None:
    def read(uri: str, start: int, length: int) -> bytes:
        raise LookupError(f"{uri}: not in the store")

    with pytest.raises(LookupError, match="gone: not in the store"):
        RangeReader(read, lambda uri: tmp_path / uri).fetch([Range("gone", 0, 4)])


def _safetensors(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    save_file(tensors, folder / "file")
    return f"file@sha256:{hashlib.sha256((folder / 'file').read_bytes()).hexdigest()}"


def test_every_dtype_of_whole_bytes_is_read(tmp_path: Path) -> None:
    tensors = {}
    for name, (torch_name, size) in DTYPES.items():
        bits = torch.arange(6 * size, dtype=torch.uint8).remainder(2)  # of booleans too
        tensors[name] = bits.view(getattr(torch, torch_name)).reshape(2, 3)
        assert tensors[name].element_size() == size
    tensors |= {"scalar": torch.tensor(3, dtype=torch.int64), "empty": torch.zeros(0, 4)}
    reference = _safetensors(tmp_path, tensors)
    for name, tensor in tensors.items():
        found = whole_tensor(reference, name, Objects(tmp_path).read)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert found.reshape(-1).view(torch.uint8).tolist() == tensor.reshape(-1).view(torch.uint8).tolist()
    with pytest.raises(DamagedDataError, match="tensor 'other' is not in this shard"):
        whole_tensor(reference, "other", Objects(tmp_path).read)


def test_headers_are_kept_up_to_a_limit_and_the_least_recently_used_one_goes(tmp_path: Path) -> None:
    for name in "abc":
        save_file({f"{name}{number}": torch.zeros(1) for number in range(10)}, tmp_path / name)
    objects = Objects(tmp_path)
    length = int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
    headers = Headers(RangeReader(objects.read), kept_bytes=2 * length)

    def read_for(*names: str) -> list[str]:
        objects.reads.clear()
        found = headers.get(names)
        assert all(isinstance(found[name], Header) for name in names)
        return sorted(uri for uri, _, _ in objects.reads)

    assert read_for("a", "b") == ["a", "b"]
    assert read_for("a", "b", "a") == []
    assert read_for("b", "a") == []
    assert read_for("c") == ["c"]  # b goes
    assert read_for("a", "c") == []
    assert read_for("b") == ["b"]


def test_long_headers_and_other_spellings_are_read(tmp_path: Path) -> None:
    many = {f"clip{number}/{'x' * 200}": torch.tensor([number]) for number in range(2000)}
    save_file(many, tmp_path / "long")
    spaced = b'{ "t" : {"dtype" : "U8", "shape" : [2], "data_offsets" : [0, 2]}, "__metadata__": {"t": "t"} }'
    (tmp_path / "spaced").write_bytes(len(spaced).to_bytes(8, "little") + spaced + b"\x05\x06")
    (tmp_path / "cut").write_bytes((tmp_path / "long").read_bytes()[:300_000])
    (tmp_path / "short").write_bytes(b"12")
    found = Headers(RangeReader(Objects(tmp_path).read)).get(["long", "spaced", "cut", "short"])
    header = found["long"]
    assert isinstance(header, Header)
    names = list(many)
    content = (tmp_path / "long").read_bytes()
    for name, entry in zip(reversed(names), header.entries(names[::-1]), strict=True):
        assert np.frombuffer(content[entry.start : entry.end], np.int64).tolist() == many[name].tolist()
    assert header.end() == len(content)
    other = found["spaced"]
    assert isinstance(other, Header)
    (entry,) = other.entries(["t"])
    assert (entry.end - entry.start, entry.end) == (2, other.end())
    assert isinstance(found["cut"], DamagedDataError) and isinstance(found["short"], DamagedDataError)
