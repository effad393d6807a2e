"""Shape of the multimodal diffusion transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

TIME_FEATURES = 256  # width of the sinusoidal time embedding, as in FLUX


@dataclass(frozen=True)
class MMDiTConfig:
    """Architecture of one MMDiT; the defaults are Open-Sora 2.0's 11B model.

    Attributes:
        in_channels: features of one image token = latent channels x patch_size^2; also the output's.
        vec_in_dim: width of the pooled CLIP embedding.
        context_in_dim: width of the T5 embeddings.
        hidden_size: width of the transformer; num_heads x sum(axes_dim).
        mlp_ratio: width of the feed-forward layers over hidden_size.
        num_heads: attention heads.
        depth: double blocks (text and image with weights of their own).
        depth_single_blocks: single blocks (one set of weights for the joint sequence).
        axes_dim: rotary dimensions of time, height and width; their sum is the head dimension.
        theta: base of the rotary frequencies.
        qkv_bias: bias in the query, key and value projections of double blocks.
        patch_size: latent pixels per token along height and along width.
        cond_embed: whether the model takes image conditions (cond_in).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    in_channels: int = 64
    vec_in_dim: int = 768
    context_in_dim: int = 4096
    hidden_size: int = 3072
    mlp_ratio: float = 4.0
    num_heads: int = 24
    depth: int = 19
    depth_single_blocks: int = 38
    axes_dim: tuple[int, int, int] = (16, 56, 56)
    theta: int = 10_000
    qkv_bias: bool = True
    patch_size: int = 2
    cond_embed: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for shapes that do not fit together."""
        if self.num_heads * self.head_dim != self.hidden_size:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not num_heads {self.num_heads} x head dimension "
                f"{self.head_dim} (the sum of axes_dim {list(self.axes_dim)})"
            )
        if self.in_channels % self.patch_size**2:
            raise ValueError(f"in_channels {self.in_channels} is not a multiple of patch_size^2 {self.patch_size**2}")
        if any(axis % 2 for axis in self.axes_dim):
            raise ValueError(f"axes_dim {list(self.axes_dim)} have to be even: rotations act on pairs")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return sum(self.axes_dim)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent video."""
        return self.in_channels // self.patch_size**2

    @property
    def cond_channels(self) -> int:
        """Features of one condition token: mask and reference latents, packed like the latents."""
        return (1 + self.latent_channels) * self.patch_size**2

    @classmethod
    def open_sora_v2(cls, *, cond_embed: bool = True) -> MMDiTConfig:
        """Open-Sora 2.0 on HunyuanVideo's autoencoder: 11.89 billion parameters."""
        return cls(cond_embed=cond_embed)

    @classmethod
    def dc_ae(cls, *, cond_embed: bool = True) -> MMDiTConfig:
        """Open-Sora 2.0 on the Video DC-AE (128 channels, patch 1)."""
        return cls(in_channels=128, patch_size=1, cond_embed=cond_embed)

    @classmethod
    def nano(cls, *, cond_embed: bool = True) -> MMDiTConfig:
        """The same architecture for a CPU and minutes."""
        return cls(
            in_channels=32,
            vec_in_dim=64,
            context_in_dim=64,
            hidden_size=128,
            num_heads=4,
            depth=2,
            depth_single_blocks=2,
            axes_dim=(8, 12, 12),
            cond_embed=cond_embed,
        )
