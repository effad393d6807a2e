"""Shape of HunyuanVideo's autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zoetrope.model.autoencoders.base_config import AutoencoderConfig, Kind, TilingConfig


@dataclass(frozen=True)
class HunyuanVideoConfig(AutoencoderConfig):
    """Architecture of one causal video autoencoder; the defaults are the released one's (4x8x8, 16 channels).

    Between block i and i + 1 the video shrinks by 2 in space, and by 2 in time where `temporal[i]`. The decoder
    takes `temporal` in its own order: its first step enlarges by `temporal[0]`, so it is not the encoder's mirror
    image (released code).

    Attributes:
        latent_channels: channels of the latent.
        widths: channels of each block, from pixels to latent.
        temporal: for each of the len(widths) - 1 steps between blocks, whether time is resampled too.
        resnets: residual units in each block of the encoder; the decoder's have one more.
        groups: groups of each group norm; divides all widths.
        scaling_factor: what latents are multiplied with for unit variance (0.476986 in the released code).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    kind: ClassVar[Kind] = "hunyuan_video"
    leading_frames: ClassVar[int] = 1

    latent_channels: int = 16
    widths: tuple[int, ...] = (128, 256, 512, 512)
    temporal: tuple[bool, ...] = (False, True, True)
    resnets: int = 2
    groups: int = 32
    scaling_factor: float = 0.476986

    def __post_init__(self) -> None:
        """Raises ValueError for lists of different lengths or widths that the groups do not divide."""
        if len(self.temporal) + 1 != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths need {len(self.widths) - 1} entries of temporal")
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} have to be multiples of the {self.groups} groups")
        if self.scaling_factor <= 0:
            raise ValueError(f"scaling_factor has to be positive, not {self.scaling_factor}")

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent pixel along height and along width."""
        return int(2 ** len(self.temporal))

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame, after the first frame."""
        return int(2 ** sum(self.temporal))

    @property
    def frame_rule(self) -> str:
        """The numbers of frames that it takes, as text."""
        return f"1 frame more than a multiple of {self.temporal_factor} frames"

    @property
    def tiling(self) -> TilingConfig:
        """256 pixels and 64 (+1) frames, a quarter of overlap (released code)."""
        return TilingConfig(frames=64)

    @property
    def latent_statistics(self) -> tuple[list[float], list[float]]:
        """Mean 0 and standard deviation 1 / scaling_factor for each latent channel."""
        return [0.0] * self.latent_channels, [1 / self.scaling_factor] * self.latent_channels

    def nearest_frames(self, frames: int) -> int:
        """The number of frames closest to `frames` that it takes (of two equally close ones the larger)."""
        factor = self.temporal_factor
        return max(0, (frames - 1 + factor // 2) // factor) * factor + 1

    def frames_of_latent(self, latent_frames: int) -> int:
        """Frames of the video that a latent of `latent_frames` decodes to."""
        return (latent_frames - 1) * self.temporal_factor + 1

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video whose number of frames is valid."""
        return (frames - 1) // self.temporal_factor + 1

    @classmethod
    def open_sora_v2(cls) -> HunyuanVideoConfig:
        """The released autoencoder: 8x in space, 4x in time, 16 channels, 246.5 million parameters."""
        return cls()
