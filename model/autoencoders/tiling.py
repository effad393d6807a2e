"""Cutting tensors into overlapping tiles along one axis, and joining what a network made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def joined(pieces: Iterable[Tensor], axis: int) -> Tensor:
    """Concatenates pieces; a single one stays what it is, its layout in memory included."""
    found = list(pieces)
    return found[0] if len(found) == 1 else torch.cat(found, axis)


def overlapping(chunks: Iterable[Tensor], axis: int, size: int, overlap: int, leading: int = 0) -> Iterator[Tensor]:
    """Cuts a stream into tiles of `leading + size` elements, each of which begins `size - overlap` after the last.

    The last tile is as long as what is left, which is always more than `leading + overlap`. No more than one tile
    and one chunk are held at a time.

    Args:
        chunks: pieces of any length along `axis`, all other sizes equal.
        axis: along which to cut.
        size: elements of a tile that are its own; 0 joins everything into one tile.
        overlap: elements shared with the next tile, less than `size`.
        leading: elements that every tile needs before its own ones.
    """
    pending: Tensor | None = None
    cut = False
    for chunk in chunks:
        pending = chunk if pending is None else torch.cat([pending, chunk], axis)
        del chunk
        while size and pending.shape[axis] > leading + size:
            yield pending.narrow(axis, 0, leading + size).contiguous()
            start = size - overlap
            pending, cut = pending.narrow(axis, start, pending.shape[axis] - start), True
    if pending is not None:
        # kernels are chosen by layout: what is not tiled goes on untouched, to the bit
        yield pending.contiguous() if cut else pending


def blended(tiles: Iterable[Tensor], axis: int, overlap: int) -> Iterator[Tensor]:
    """Joins tiles whose last `overlap` elements lie where the first ones of the next tile lie.

    There element i of the overlap is `(1 - i / overlap) * earlier + i / overlap * later` (released code).

    Args:
        tiles: in order.
        axis: along which they follow each other.
        overlap: number of shared elements.

    Yields:
        Pieces without overlap, as soon as they are final; concatenated they are the whole.
    """
    tail: Tensor | None = None
    for tile in tiles:
        piece = tile
        if tail is not None:
            ramp = torch.arange(overlap, dtype=tile.dtype, device=tile.device) / overlap
            ramp = ramp.view(-1, *[1] * (tile.dim() - 1 - axis))
            rest = tile.narrow(axis, overlap, tile.shape[axis] - overlap)
            piece = torch.cat([torch.lerp(tail, tile.narrow(axis, 0, overlap), ramp), rest], axis)
        del tile
        if overlap:
            final = max(0, piece.shape[axis] - overlap)  # a tile that has no next one may be short
            # views would keep the whole tile alive
            tail = piece.narrow(axis, final, piece.shape[axis] - final).clone()
            piece = piece.narrow(axis, 0, final).clone()
        if piece.shape[axis]:
            yield piece
    if tail is not None:
        yield tail


def tiled_in_space(network: Callable[[Tensor], Tensor], x: Tensor, size: int, overlap: int, blend: int) -> Tensor:
    """Applies a network to tiles of height and width (axes 3 and 4) and blends the results.

    Args:
        network: its result covers the same space as its input.
        x: [B, C, T, H, W].
        size: height and width of a tile, in elements of x; 0 does not tile.
        overlap: elements of x shared by neighbours.
        blend: the same in elements of the result.
    """

    def strip(rows: Tensor) -> Tensor:
        return _along(4, network, rows, size, overlap, blend)

    return _along(3, strip, x, size, overlap, blend)


def _along(axis: int, network: Callable[[Tensor], Tensor], x: Tensor, size: int, overlap: int, blend: int) -> Tensor:
    if not size or x.shape[axis] <= size:
        return network(x)
    return joined(blended(map(network, overlapping([x], axis, size, overlap)), axis, blend), axis)
