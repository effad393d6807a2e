"""Safetensors files: one, or the shards of an index; read tensor by tensor without mapping the file into memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

INDEX_SUFFIX = ".safetensors.index.json"  # Hugging Face's name for the index of a sharded checkpoint


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        path: file that holds it.
        dtype: of its elements.
        shape: lengths of its dimensions.
        start: first byte in the file.
    """

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


class WeightFiles:
    """The tensors of a checkpoint, by name; a `WeightSource`."""

    def __init__(self, path: Path) -> None:
        """Reads the headers alone.

        Args:
            path: a `.safetensors` file, a `.safetensors.index.json`, or a folder with exactly one of them.

        Raises:
            ValueError: it is not safetensors, truncated, or a pickle (never read: reading one runs code).
        """
        self.path = path
        self._tensors: dict[str, StoredTensor] = {}
        for file in _files(path):
            for name, tensor in _header(file).items():
                if name in self._tensors:
                    raise ValueError(f"{file}: tensor {name} is in {self._tensors[name].path.name} as well")
                self._tensors[name] = tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """One tensor, or some of its rows, read from disk into memory of its own.

        Args:
            name: of `shapes`.
            rows: consecutive rows (first dimension); None: all.
        """
        import torch

        stored = self._tensors[name]
        count = stored.shape[0] if stored.shape else 1
        first, last, _ = (rows or slice(None)).indices(count)
        shape = (last - first, *stored.shape[1:]) if stored.shape else ()
        tensor = torch.empty(shape, dtype=stored.dtype)
        size = tensor.numel() * tensor.element_size()
        if not size:
            return tensor
        row = size // (last - first) if stored.shape else size
        with stored.path.open("rb", buffering=0) as stream:
            stream.seek(stored.start + first * row)
            # reshaped first: a view as bytes needs a dimension
            target = tensor.reshape(-1).view(torch.uint8).numpy().data
            while target:
                got = stream.readinto(target)
                if not got:
                    raise ValueError(f"{stored.path}: ends within tensor {name}; the file was cut off")
                target = target[got:]
        return tensor


def _files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint."""
    if path.is_dir():
        found = sorted(path.glob("*" + INDEX_SUFFIX)) or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise ValueError(f"{path}: expected one .safetensors file or index in this folder, found {len(found)}")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not an index of safetensors files ({error})") from error
    shards = [path.parent / str(name) for name in names]
    for shard in shards:
        if shard.parent != path.parent or shard.name in ("", ".."):
            raise ValueError(f"{path}: shard {shard.name!r} does not lie beside its index")
        if not shard.is_file():
            raise ValueError(f"{path}: shard {shard.name} is missing beside it")
    return shards


def require_safetensors(path: Path) -> None:
    """Raises ValueError for pickled checkpoints (.pt, .pth, .ckpt, .bin), by content."""
    with path.open("rb") as stream:
        begin = stream.read(9)
    # a header length may begin with any byte, so what tells safetensors apart is the JSON that follows it
    if begin[8:] != b"{" and (begin[:2] == b"PK" or begin[:1] == b"\x80"):
        raise ValueError(f"{path} is a pickled checkpoint, which could run code when read; give a .safetensors file")


def _header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file; safetensors itself checks that header and length are sound."""
    from safetensors import SafetensorError, safe_open

    from zoetrope.model.checkpoint.dtypes import DTYPES

    require_safetensors(path)
    try:
        with safe_open(str(path), framework="pt"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from error
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        entries = json.loads(stream.read(length))
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: tensor {name} is of dtype {entry['dtype']}, expected {', '.join(DTYPES)}")
        start = 8 + length + entry["data_offsets"][0]
        tensors[name] = StoredTensor(path, DTYPES[entry["dtype"]], tuple(entry["shape"]), start)
    return tensors


def save_weights(tensors: nn.Module | Mapping[str, torch.Tensor], path: Path) -> Path:
    """Writes weights as safetensors; the bytes depend on names and values alone.

    Args:
        tensors: a module, or its state dict.
        path: file to write, `*.safetensors`.
    """
    from safetensors.torch import save_file
    from torch import nn

    state = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
    save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, str(path))
    return path


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads all tensors of a checkpoint (see `WeightFiles`)."""
    files = WeightFiles(path)
    return {name: files.read(name) for name in files.shapes()}
