"""Shape of the Video DC-AE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoetrope.model.autoencoders.base_config import AutoencoderConfig, Kind, TilingConfig, nearest_multiple

BlockKind = Literal["ResBlock", "EViT_GLU"]


@dataclass(frozen=True)
class DCAEConfig(AutoencoderConfig):
    """Architecture of one deep-compression autoencoder; the defaults are Open-Sora 2.0's f32t4c128.

    Stage i works at width `widths[i]`; between stage i and i + 1 the video shrinks by 2 in space, and by 2 in time
    where `temporal[i]`. A stage of depth 0 at the start folds its shrinking into the first convolution.

    Attributes:
        latent_channels: channels of the latent.
        widths: channels of each stage, from pixels to latent.
        encoder_depths: blocks in each stage of the encoder.
        decoder_depths: blocks in each stage of the decoder.
        blocks: kind of block in each stage.
        temporal: for each of the len(widths) - 1 steps between stages, whether time shrinks too.
        head_dim: channels of one head of the linear attention.
        expand_ratio: hidden width of the gated feed-forward block over its input.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    kind: ClassVar[Kind] = "dc_ae"
    leading_frames: ClassVar[int] = 0

    latent_channels: int = 128
    widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    encoder_depths: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    decoder_depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    blocks: tuple[BlockKind, ...] = ("ResBlock", "ResBlock", "ResBlock", "EViT_GLU", "EViT_GLU", "EViT_GLU")
    temporal: tuple[bool, ...] = (False, False, False, True, True)
    head_dim: int = 32
    expand_ratio: int = 4

    def __post_init__(self) -> None:
        """Raises ValueError for lists of different lengths."""
        stages = len(self.widths)
        lengths = {
            len(self.encoder_depths),
            len(self.decoder_depths),
            len(self.blocks),
            len(self.temporal) + 1,
        }
        if lengths != {stages}:
            raise ValueError(
                f"{stages} widths need {stages} encoder_depths, decoder_depths and blocks and {stages - 1} "
                f"entries of temporal"
            )

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent pixel along height and along width."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return int(2 ** sum(self.temporal))

    @property
    def frame_rule(self) -> str:
        """The numbers of frames that it takes, as text."""
        return f"1 frame or a multiple of {self.temporal_factor} frames"

    @property
    def tiling(self) -> TilingConfig:
        """256 pixels and 32 frames, what it was trained on; chunks of 32 frames are independent of each other."""
        return TilingConfig(frames=32, frame_overlap=0.0)

    def nearest_frames(self, frames: int) -> int:
        """The number of frames closest to `frames` that it takes (of two equally close ones the larger)."""
        multiple = nearest_multiple(frames, self.temporal_factor)
        return 1 if abs(frames - 1) < abs(frames - multiple) else multiple

    def frames_of_latent(self, latent_frames: int) -> int:
        """Frames of the video that a latent of `latent_frames` decodes to; a single one is taken for an image's."""
        return 1 if latent_frames == 1 else latent_frames * self.temporal_factor

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video whose number of frames is valid."""
        return 1 if frames == 1 else frames // self.temporal_factor

    @classmethod
    def open_sora_v2(cls) -> DCAEConfig:
        """dc-ae-f32t4c128: 32x in space, 4x in time, 459.5 million parameters."""
        return cls()

    @classmethod
    def nano(cls) -> DCAEConfig:
        """The same code with fewer stages: 8x in space, 4x in time, 8 channels."""
        return cls(
            latent_channels=8,
            widths=(16, 24, 48, 96),
            encoder_depths=(0, 0, 0, 1),
            decoder_depths=(0, 0, 0, 1),
            blocks=("ResBlock", "ResBlock", "ResBlock", "ResBlock"),
            temporal=(True, True, False),
        )
