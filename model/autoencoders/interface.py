"""The one interface of all video autoencoders: encode, decode, tiles and streams.

Shape letters: B batch, C latent channels, T frames, H height, W width; T', H', W' those of the latent. Pixels are
in [-1, 1]. Latents are as the network makes them: whoever trains on them subtracts the mean and divides by the
standard deviation of the autoencoder's product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from zoetrope.model.autoencoders.base_config import AutoencoderConfig, Kind, TilingConfig
from zoetrope.model.autoencoders.tiling import blended, joined, overlapping, tiled_in_space

PIXEL_CHANNELS = 3
NO_TILES = TilingConfig(pixels=0, frames=0)


class VideoAutoencoder(nn.Module, ABC):
    """A video autoencoder.

    A subclass gives `_encode_tile`, `_decode_tile` and, where its encoder gives a distribution, `_moments`. Tiles in
    time are a stream: the tiled encode of a whole video equals that of its chunks.

    Attributes:
        config: architecture, factors and the rule for sizes.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self._tiling = NO_TILES

    @abstractmethod
    def _encode_tile(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, channels of the encoder's output, T', H', W']."""

    @abstractmethod
    def _decode_tile(self, latent: Tensor, *, single_frame: bool) -> Tensor:
        """[B, C, T', H', W'] -> [B, 3, T, H, W]."""

    def _moments(self, encoded: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the encoder's output; a deterministic one is its own mean."""
        return encoded, None

    @property
    def kind(self) -> Kind:
        """Name of the architecture."""
        return self.config.kind

    @property
    def latent_channels(self) -> int:
        """C."""
        return self.config.latent_channels

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return self.config.temporal_factor

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent pixel along height and along width."""
        return self.config.spatial_factor

    @property
    def latent_statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each latent channel [C]; None where they are measured after training."""
        return self.config.latent_statistics

    @property
    def tiling(self) -> TilingConfig:
        """How `encode` and `decode` cut large videos; at first they do not."""
        return self._tiling

    @tiling.setter
    def tiling(self, tiling: TilingConfig | None) -> None:
        """None does not tile; raises ValueError for tiles that the factors do not divide."""
        self._tiling = NO_TILES if tiling is None else tiling
        self.config.check_tiling(self._tiling)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T', H', W') of the latent of a video; see `AutoencoderConfig.latent_shape`."""
        return self.config.latent_shape(frames, height, width)

    def nearest_frames(self, frames: int) -> int:
        """The number of frames closest to `frames` that it takes."""
        return self.config.nearest_frames(frames)

    def frames_of_latent(self, latent_frames: int) -> int:
        """Frames of the video that a latent of `latent_frames` decodes to."""
        return self.config.frames_of_latent(latent_frames)

    def encode(self, video: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Latent of a video.

        Args:
            video: [B, 3, T, H, W] in [-1, 1]; T = 1 is an image.
            generator: samples the posterior, as Open-Sora 2.0's training does; None takes its mean. An autoencoder
                that is deterministic does not use it.

        Returns:
            [B, C, T', H', W'] (see `latent_shape`).

        Raises:
            ValueError: sizes or channels that it does not take.
        """
        self._check_video(video)
        return joined(self._latents([video], self.tiling, generator), 2)

    def encode_moments(self, video: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the posterior.

        Args:
            video: [B, 3, T, H, W] in [-1, 1].

        Returns:
            (mean [B, C, T', H', W'], log variance likewise, or None for a deterministic autoencoder).

        Raises:
            ValueError: sizes or channels that it does not take.
        """
        self._check_video(video)
        return self._moments(joined(self._encoded([video], self.tiling), 2))

    def decode(self, latent: Tensor, *, single_frame: bool | None = None) -> Tensor:
        """Video of a latent.

        Args:
            latent: [B, C, T', H', W'].
            single_frame: the latent is an image's; by default this is so when T' is 1. Where images and short videos
                both have one latent frame (DC-AE), False decodes a video.

        Returns:
            [B, 3, T, H, W], about [-1, 1] (not clipped).

        Raises:
            ValueError: not of this shape.
        """
        self._check_latent(latent)
        single = latent.shape[2] == 1 if single_frame is None else single_frame
        return joined(self._decoded([latent], self.tiling, single), 2)

    def encode_stream(
        self,
        chunks: Iterable[Tensor],
        *,
        generator: torch.Generator | None = None,
        tiling: TilingConfig | None = None,
    ) -> Iterator[Tensor]:
        """Latents of a video that arrives in chunks; memory does not grow with the number of frames.

        The result is that of `encode` with the same tiling. It is exact where chunks are defined as independent
        (DC-AE); HunyuanVideo's autoencoder pools over all frames, so its tiles differ from an untiled encode (by how
        much: docs/benchmarks.md).

        Args:
            chunks: [B, 3, t, H, W] of any t.
            generator: see `encode`.
            tiling: tiles; None takes the model's own where these tile time, else `config.tiling`.

        Yields:
            [B, C, t', H', W'], in order.

        Raises:
            ValueError: sizes or channels that it does not take (a wrong number of frames is known at the end), or
                tiles that do not cut time.
        """
        return self._latents(self._checked_video(chunks), self._streaming(tiling), generator)

    def decode_stream(self, chunks: Iterable[Tensor], *, tiling: TilingConfig | None = None) -> Iterator[Tensor]:
        """Video of a latent that arrives in chunks; the counterpart of `encode_stream`.

        Args:
            chunks: [B, C, t', H', W'] of any t'.
            tiling: as for `encode_stream`.

        Yields:
            [B, 3, t, H, W], in order.

        Raises:
            ValueError: not of this shape, or tiles that do not cut time.
        """
        return self._decoded(self._checked_latent(chunks), self._streaming(tiling), None)

    def forward(self, video: Tensor) -> Tensor:
        """Reconstruction of a video through the mean latent, same shape."""
        return self.decode(self.encode(video), single_frame=video.shape[2] == 1)

    def _streaming(self, tiling: TilingConfig | None) -> TilingConfig:
        chosen = tiling or (self.tiling if self.tiling.frames else self.config.tiling)
        self.config.check_tiling(chosen)
        if not chosen.frames:
            raise ValueError("a stream needs tiles in time: tiling.frames is 0")
        return chosen

    def _latents(
        self, chunks: Iterable[Tensor], tiling: TilingConfig, generator: torch.Generator | None
    ) -> Iterator[Tensor]:
        for encoded in self._encoded(chunks, tiling):
            mean, log_variance = self._moments(encoded)
            if log_variance is not None and generator is not None:
                noise = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=mean.dtype)
                mean = mean + torch.exp(0.5 * log_variance) * noise.to(mean.device)
            yield mean

    def _encoded(self, chunks: Iterable[Tensor], tiling: TilingConfig) -> Iterator[Tensor]:
        leading, factor, space = self.config.leading_frames, self.temporal_factor, self.spatial_factor

        def encoded() -> Iterator[Tensor]:
            tiles = overlapping(chunks, 2, tiling.frames, tiling.shared_frames, leading)
            for at, tile in enumerate(tiles):
                shared = tiling.shared_pixels
                code = tiled_in_space(self._encode_tile, tile, tiling.pixels, shared, shared // space)
                yield code[:, :, leading:] if at else code

        return blended(encoded(), 2, tiling.shared_frames // factor)

    def _decoded(self, chunks: Iterable[Tensor], tiling: TilingConfig, single: bool | None) -> Iterator[Tensor]:
        leading, factor, space = self.config.leading_frames, self.temporal_factor, self.spatial_factor

        def decoded() -> Iterator[Tensor]:
            tiles = overlapping(chunks, 2, tiling.frames // factor, tiling.shared_frames // factor, leading)
            for at, tile in enumerate(tiles):
                # only the first tile can be a whole image; a later one of one latent frame is the end of a video
                alone = not at and (tile.shape[2] == 1 if single is None else single)
                network = partial(self._decode_tile, single_frame=alone)
                shared = tiling.shared_pixels
                video = tiled_in_space(network, tile, tiling.pixels // space, shared // space, shared)
                yield video[:, :, leading:] if at else video

        return blended(decoded(), 2, tiling.shared_frames)

    def _check_video(self, video: Tensor, frames: int | None = None) -> None:
        """Checks a video, or a chunk of one of `frames` frames."""
        if video.dim() != 5 or video.shape[1] != PIXEL_CHANNELS:
            raise ValueError(
                f"autoencoder {self.kind} encodes videos [batch, {PIXEL_CHANNELS}, frames, height, width], "
                f"not {list(video.shape)}"
            )
        self.latent_shape(frames or video.shape[2], *video.shape[3:])

    def _check_latent(self, latent: Tensor) -> None:
        if latent.dim() != 5 or latent.shape[1] != self.latent_channels or not latent.numel():
            raise ValueError(
                f"autoencoder {self.kind} decodes latents [batch, {self.latent_channels}, frames, height, width], "
                f"not {list(latent.shape)}"
            )

    def _checked_video(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The chunks; a wrong number of frames raises before the last tile is made."""
        frames, size = 0, (self.spatial_factor, self.spatial_factor)
        for chunk in chunks:
            self._check_video(chunk, frames=1)
            _require_equal(size if frames else chunk.shape[3:], chunk.shape[3:])
            frames, size = frames + chunk.shape[2], (chunk.shape[3], chunk.shape[4])
            yield chunk
        self.latent_shape(frames, *size)

    def _checked_latent(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        size: Sequence[int] = ()
        for chunk in chunks:
            self._check_latent(chunk)
            _require_equal(size or chunk.shape[3:], chunk.shape[3:])
            size = chunk.shape[3:]
            yield chunk


def _require_equal(expected: Sequence[int], found: Sequence[int]) -> None:
    if tuple(expected) != tuple(found):
        raise ValueError(f"a stream of {expected[0]}x{expected[1]}: this chunk is {found[0]}x{found[1]}")
