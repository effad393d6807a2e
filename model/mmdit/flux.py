"""FLUX.1 weights as first weights of the MMDiT, from Black Forest Labs' or from diffusers' layout.

The video model has FLUX's tensors; only their names and the pairing of rotary features differ (facts: Open-Sora 2.0,
section 4.1.1). FLUX rotates the features (2i, 2i + 1) of a head together, the MMDiT (i, i + E/2), so the rows of every
query and key projection and the scales of their norms change places. FLUX's axis 0 (16 features, always at position
0 there) becomes time. The condition input does not exist in FLUX and starts at zero; the embedding of FLUX.1-dev's
distilled guidance has no place here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.model.checkpoint import WeightFiles, WeightSource
from zoetrope.model.mmdit.config import MMDiTConfig

if TYPE_CHECKING:
    import torch

NOT_IN_FLUX = ("cond_in.",)  # for `load_weights(may_miss=...)`
GUIDANCE = ("guidance_in.", "time_text_embed.guidance_embedder.")

Parts = list[tuple[str, int, int]]
"""Rows [first, last) of tensors of the file, put one after the other; last -1 means to the end."""


@dataclass(frozen=True)
class _Origin:
    """How one tensor of the MMDiT is made.

    Attributes:
        parts: rows of the file's tensors.
        permuted: whether the features of each head change from interleaved to half-split pairs.
        swapped: whether the two halves change places (diffusers has scale before shift in the last layer).
    """

    parts: Parts
    permuted: bool = False
    swapped: bool = False


class FluxWeights:
    """A FLUX.1 checkpoint seen under the names of the MMDiT; a `WeightSource` for `load_weights`."""

    def __init__(self, path: Path, config: MMDiTConfig) -> None:
        """Reads the headers alone.

        Args:
            path: file, index or folder in the original layout (`flux1-dev.safetensors`) or in diffusers'
                (`transformer/`).
            config: of the model to fill.

        Raises:
            ValueError: neither layout, tensors that have no place in the model, or not safetensors.
        """
        self.path = path
        self._files = WeightFiles(path)
        self._config = config
        names = set(self._files.shapes())
        if any(name.startswith("transformer_blocks.") for name in names):
            self._origins = _diffusers(config)
        elif any(name.startswith("double_blocks.") and ".qkv." in name for name in names):
            self._origins = _original(config)
        else:
            raise ValueError(
                f"{path}: neither FLUX's original layout (double_blocks.0.img_attn.qkv.weight) nor diffusers' "
                f"(transformer_blocks.0.attn.to_q.weight); its first tensor is {min(names, default='none')}"
            )
        used = {part for origin in self._origins.values() for part, _, _ in origin.parts}
        left = sorted(name for name in names - used if not name.startswith(GUIDANCE))
        if left:
            raise ValueError(f"{path}: {len(left)} tensors have no place in the model ({left[0]}, ...)")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name in the MMDiT -> shape; tensors that the file lacks are not in it."""
        given = self._files.shapes()
        shapes = {}
        for name, origin in self._origins.items():
            if all(part in given for part, _, _ in origin.parts):
                rows = sum((given[part][0] if last < 0 else last) - first for part, first, last in origin.parts)
                shapes[name] = (rows, *given[origin.parts[0][0]][1:])
        return shapes

    def read(self, name: str) -> torch.Tensor:
        """One tensor of the MMDiT."""
        import torch

        origin = self._origins[name]
        pieces = [
            self._files.read(part, slice(first, None if last < 0 else last)) for part, first, last in origin.parts
        ]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if origin.permuted:
            # [heads, pairs, 2, ...] -> [heads, 2, pairs, ...]
            heads = tensor.reshape(-1, self._config.head_dim // 2, 2, *tensor.shape[1:])
            tensor = heads.transpose(1, 2).flatten(0, 2).contiguous()
        return torch.cat(tensor.chunk(2)[::-1]) if origin.swapped else tensor


def first_weights(path: Path, config: MMDiTConfig) -> WeightSource:
    """A file of first weights for `load_weights`, recognised by its names: FLUX in either layout, or the MMDiT's own.

    Raises:
        ValueError: not safetensors, or FLUX weights with tensors that have no place in the model.
    """
    own = WeightFiles(path)
    is_own = any(name.endswith((".v_mlp.weight", "_attn.q_proj.weight")) for name in own.shapes())
    return own if is_own else FluxWeights(path, config)


def _both(origins: dict[str, _Origin], name: str, make: Callable[[str], _Origin]) -> None:
    """Adds weight and bias."""
    for kind in ("weight", "bias"):
        origins[f"{name}.{kind}"] = make(kind)


def _whole(source: str, **how: bool) -> Callable[[str], _Origin]:
    return lambda kind: _Origin([(f"{source}.{kind}", 0, -1)], **how)


def _rows(source: str, first: int, last: int, **how: bool) -> Callable[[str], _Origin]:
    return lambda kind: _Origin([(f"{source}.{kind}", first, last)], **how)


def _original(config: MMDiTConfig) -> dict[str, _Origin]:
    """Black Forest Labs' names: query, key and value fused, in single blocks with the feed-forward as well."""
    width = config.hidden_size
    origins: dict[str, _Origin] = {}
    same = ["img_in", "txt_in", "final_layer.linear", "final_layer.adaLN_modulation.1"]
    same += [f"{part}.{layer}" for part in ("time_in", "vector_in") for layer in ("in_layer", "out_layer")]
    thirds = (("q_proj", True), ("k_proj", True), ("v_proj", False))
    for block in (f"double_blocks.{i}" for i in range(config.depth)):
        for stream in ("img", "txt"):
            same += [f"{block}.{stream}_mod.lin", f"{block}.{stream}_attn.proj"]
            same += [f"{block}.{stream}_mlp.{layer}" for layer in (0, 2)]
            attention = f"{block}.{stream}_attn"
            for index, (name, permuted) in enumerate(thirds):
                part = _rows(f"{attention}.qkv", index * width, (index + 1) * width, permuted=permuted)
                _both(origins, f"{attention}.{name}", part)
            _norms(origins, attention, f"{attention}.norm.query_norm.scale", f"{attention}.norm.key_norm.scale")
    for block in (f"single_blocks.{i}" for i in range(config.depth_single_blocks)):
        same += [f"{block}.modulation.lin", f"{block}.linear2"]
        _both(origins, f"{block}.q_proj", _rows(f"{block}.linear1", 0, width, permuted=True))
        _both(origins, f"{block}.k_proj", _rows(f"{block}.linear1", width, 2 * width, permuted=True))
        _both(origins, f"{block}.v_mlp", _rows(f"{block}.linear1", 2 * width, -1))
        _norms(origins, block, f"{block}.norm.query_norm.scale", f"{block}.norm.key_norm.scale")
    for name in same:
        _both(origins, name, _whole(name))
    return origins


def _diffusers(config: MMDiTConfig) -> dict[str, _Origin]:
    """Names of diffusers' FluxTransformer2DModel."""
    origins: dict[str, _Origin] = {}
    renamed = {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    }
    _both(origins, "final_layer.adaLN_modulation.1", _whole("norm_out.linear", swapped=True))
    for i in range(config.depth):
        ours, theirs = f"double_blocks.{i}", f"transformer_blocks.{i}"
        renamed |= {
            f"{ours}.img_mod.lin": f"{theirs}.norm1.linear",
            f"{ours}.txt_mod.lin": f"{theirs}.norm1_context.linear",
            f"{ours}.img_attn.proj": f"{theirs}.attn.to_out.0",
            f"{ours}.txt_attn.proj": f"{theirs}.attn.to_add_out",
            f"{ours}.img_attn.v_proj": f"{theirs}.attn.to_v",
            f"{ours}.txt_attn.v_proj": f"{theirs}.attn.add_v_proj",
            f"{ours}.img_mlp.0": f"{theirs}.ff.net.0.proj",
            f"{ours}.img_mlp.2": f"{theirs}.ff.net.2",
            f"{ours}.txt_mlp.0": f"{theirs}.ff_context.net.0.proj",
            f"{ours}.txt_mlp.2": f"{theirs}.ff_context.net.2",
        }
        for stream, query, key, added in (("img", "to_q", "to_k", ""), ("txt", "add_q_proj", "add_k_proj", "added_")):
            attention = f"{ours}.{stream}_attn"
            _both(origins, f"{attention}.q_proj", _whole(f"{theirs}.attn.{query}", permuted=True))
            _both(origins, f"{attention}.k_proj", _whole(f"{theirs}.attn.{key}", permuted=True))
            norms = (f"{theirs}.attn.norm_{added}{which}.weight" for which in ("q", "k"))
            _norms(origins, attention, *norms)
    for i in range(config.depth_single_blocks):
        ours, theirs = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        renamed |= {f"{ours}.modulation.lin": f"{theirs}.norm.linear", f"{ours}.linear2": f"{theirs}.proj_out"}
        _both(origins, f"{ours}.q_proj", _whole(f"{theirs}.attn.to_q", permuted=True))
        _both(origins, f"{ours}.k_proj", _whole(f"{theirs}.attn.to_k", permuted=True))
        for kind in ("weight", "bias"):
            parts = [(f"{theirs}.attn.to_v.{kind}", 0, -1), (f"{theirs}.proj_mlp.{kind}", 0, -1)]
            origins[f"{ours}.v_mlp.{kind}"] = _Origin(parts)
        _norms(origins, ours, f"{theirs}.attn.norm_q.weight", f"{theirs}.attn.norm_k.weight")
    for name, source in renamed.items():
        _both(origins, name, _whole(source))
    return origins


def _norms(origins: dict[str, _Origin], block: str, query: str, key: str) -> None:
    """The scales of the norms of queries and keys."""
    for name, source in (("query_norm", query), ("key_norm", key)):
        origins[f"{block}.norm.{name}.scale"] = _Origin([(source, 0, -1)], permuted=True)
