"""Latent videos to token sequences and back.

B batch, C latent channels, T, H, W latent frames, height and width, P patch size, N = T (H/P) (W/P) tokens.
Tokens are ordered (t, h, w), features of a token (c, ph, pw); there is no temporal patch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def patchify(latent: torch.Tensor, patch_size: int) -> torch.Tensor:
    """[B, C, T, H, W] -> [B, N, C P P]; raises ValueError where the patch does not divide H and W."""
    batch, channels, frames, height, width = latent.shape
    p = patch_size
    if height % p or width % p:
        raise ValueError(f"latent of {height}x{width} cannot be cut into patches of {p}x{p}")
    tokens = latent.reshape(batch, channels, frames, height // p, p, width // p, p)
    return tokens.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * p * p)


def unpatchify(tokens: torch.Tensor, frames: int, height: int, width: int, patch_size: int) -> torch.Tensor:
    """[B, N, C P P] -> [B, C, T, H, W]; the inverse of `patchify`."""
    batch, p = tokens.shape[0], patch_size
    channels = tokens.shape[2] // p**2
    latent = tokens.reshape(batch, frames, height // p, width // p, channels, p, p)
    return latent.permute(0, 4, 1, 2, 5, 3, 6).reshape(batch, channels, frames, height, width)


def image_ids(batch: int, frames: int, height: int, width: int, patch_size: int) -> torch.Tensor:
    """Positions (t, h, w) of the image tokens in the patch grid, int64 [B, N, 3], from 0, never rescaled.

    Shared by all calls: not to be written to.
    """
    return _grid(frames, height // patch_size, width // patch_size).expand(batch, -1, -1)


@lru_cache(maxsize=64)
def _grid(frames: int, rows: int, columns: int) -> torch.Tensor:
    import torch

    axes = (torch.arange(frames), torch.arange(rows), torch.arange(columns))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 3)


def text_ids(batch: int, length: int) -> torch.Tensor:
    """Positions of the text tokens: all zero, int64 [B, L, 3]."""
    import torch

    return torch.zeros(batch, length, 3, dtype=torch.int64)
