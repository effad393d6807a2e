"""What every autoencoder's configuration knows: its factors, the sizes that it takes, and how it is tiled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["dc_ae", "hunyuan_video"]


@dataclass(frozen=True)
class TilingConfig:
    """Tiles that a large video is cut into, so that memory does not grow with its size.

    Tiles overlap and are blended linearly. What is not larger than one tile is not tiled. The defaults are those of
    Open-Sora 2.0 (section 3.1 and released code: 256 pixels, a quarter of overlap; in time see
    `AutoencoderConfig.tiling`).

    Attributes:
        pixels: height and width of a tile; 0 does not tile space.
        overlap: share of a tile's height and width that the next one covers too, in [0, 0.5].
        frames: length of a tile, without the extra first frame of a causal autoencoder; 0 does not tile time.
        frame_overlap: share of a tile's frames that the next one covers too, in [0, 0.5].
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    pixels: int = 256
    overlap: float = 0.25
    frames: int = 0
    frame_overlap: float = 0.25

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        for name, size in (("pixels", self.pixels), ("frames", self.frames)):
            if size < 0:
                raise ValueError(f"tiling.{name} has to be at least 0 (0 does not tile), not {size}")
        for name, share in (("overlap", self.overlap), ("frame_overlap", self.frame_overlap)):
            # beyond a half, three tiles would meet in one place
            if not 0 <= share <= 0.5:
                raise ValueError(f"tiling.{name} has to be in [0, 0.5], not {share}")

    @property
    def shared_pixels(self) -> int:
        """Pixels that neighbouring tiles share."""
        return round(self.pixels * self.overlap)

    @property
    def shared_frames(self) -> int:
        """Frames that tiles following each other share."""
        return round(self.frames * self.frame_overlap)


class AutoencoderConfig(ABC):
    """Architecture of an autoencoder, and the rule for the videos that it takes.

    Attributes:
        kind: name of the architecture, as in the product `zoetrope.autoencoder.v1`.
        latent_channels: channels of the latent.
        leading_frames: frames at the start of a video that have a latent frame of their own (1 if causal, else 0).
    """

    kind: ClassVar[Kind]
    leading_frames: ClassVar[int]
    latent_channels: int

    @property
    @abstractmethod
    def spatial_factor(self) -> int:
        """Pixels per latent pixel along height and along width."""

    @property
    @abstractmethod
    def temporal_factor(self) -> int:
        """Frames per latent frame."""

    @property
    @abstractmethod
    def frame_rule(self) -> str:
        """The numbers of frames that it takes, as text."""

    @property
    @abstractmethod
    def tiling(self) -> TilingConfig:
        """The tiles that fit what it was trained on."""

    @property
    def latent_statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each latent channel [C]; None where they are measured after training."""
        return None

    @abstractmethod
    def nearest_frames(self, frames: int) -> int:
        """The number of frames closest to `frames` that it takes (of two equally close ones the larger)."""

    @abstractmethod
    def frames_of_latent(self, latent_frames: int) -> int:
        """Frames of the video that a latent of `latent_frames` decodes to."""

    @abstractmethod
    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video whose number of frames is valid."""

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of a latent.

        Args:
            frames: T of the video.
            height: in pixels.
            width: in pixels.

        Returns:
            (C, T', H', W').

        Raises:
            ValueError: a size that it does not take, with the nearest that it does.
        """
        nearest = self.nearest_frames(frames)
        if frames != nearest:
            raise ValueError(
                f"{frames} frames: autoencoder {self.kind} takes {self.frame_rule}; the nearest is {nearest}"
            )
        factor = self.spatial_factor
        for name, size in (("height", height), ("width", width)):
            if size < factor or size % factor:
                near = nearest_multiple(size, factor)
                raise ValueError(
                    f"{name} {size}: autoencoder {self.kind} takes multiples of {factor} pixels; the nearest is {near}"
                )
        return self.latent_channels, self.latent_frames(frames), height // factor, width // factor

    def check_tiling(self, tiling: TilingConfig) -> None:
        """Raises ValueError for tiles or overlaps that are no whole number of latent pixels or latent frames."""
        for name, size, share, factor in (
            ("pixels", tiling.pixels, tiling.overlap, self.spatial_factor),
            ("frames", tiling.frames, tiling.frame_overlap, self.temporal_factor),
        ):
            if size % factor or (size * share) % factor:
                raise ValueError(
                    f"tiling.{name} {size} with an overlap of {size * share:g}: autoencoder {self.kind} takes tiles "
                    f"and overlaps that are multiples of {factor}"
                )
        # the latent of such a tile would look like an image's
        if 0 < tiling.frames < 2 * self.temporal_factor:
            raise ValueError(
                f"tiling.frames {tiling.frames}: autoencoder {self.kind} takes at least {2 * self.temporal_factor}"
            )


def nearest_multiple(count: int, factor: int) -> int:
    """The positive multiple of `factor` closest to `count`, the larger of two equally close ones."""
    return max(factor, (count + factor // 2) // factor * factor)


def tile_lengths(length: int, size: int, overlap: int, leading: int = 0) -> list[int]:
    """Lengths of the tiles that `tiling.overlapping` cuts `length` elements into."""
    lengths = []
    while size and length > leading + size:
        lengths.append(leading + size)
        length -= size - overlap
    return [*lengths, length]
