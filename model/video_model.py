"""A video model whole: transformer, flow, autoencoder and text encoders, from prompts to pixels.

Shapes: B videos, T frames, H height and W width in pixels; C latent channels, T', H', W' of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zoetrope.model.sampling import TextCondition

if TYPE_CHECKING:
    import torch

    from zoetrope.model.autoencoders.interface import VideoAutoencoder
    from zoetrope.model.flow import FlowConfig
    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.text import TextEncoders

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VideoModel:
    """A checkpoint, loaded.

    Attributes:
        transformer: predicts the velocity.
        flow: the flow that it was trained on.
        autoencoder: between pixels and latents.
        latent_mean: [C, 1, 1, 1], subtracted from latents before training.
        latent_std: [C, 1, 1, 1], latents were divided by it.
        text: the text encoders, in the mode that the transformer knows.
    """

    transformer: MMDiT
    flow: FlowConfig
    autoencoder: VideoAutoencoder
    latent_mean: torch.Tensor
    latent_std: torch.Tensor
    text: TextEncoders

    @property
    def grid(self) -> int:
        """Pixels that height and width have to be multiples of: a latent pixel times the patch."""
        return self.autoencoder.config.spatial_factor * self.transformer.config.patch_size

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T', H', W') of a video.

        Raises:
            ValueError: the autoencoder's rule for frames or the grid refuses it.
        """
        if height % self.grid or width % self.grid:
            raise ValueError(f"{height}x{width} pixels: both have to be multiples of {self.grid}")
        shape = self.autoencoder.config.latent_shape(frames, height, width)
        if frames > 1 and shape[1] == 1:
            raise ValueError(f"{frames} frames make one latent frame, which decodes as an image; take 1 or more")
        return shape

    def untrained(self, seed: int) -> MMDiT:
        """A transformer of the same configuration with the weights that training starts from."""
        from zoetrope.model.mmdit.model import MMDiT

        return MMDiT(self.transformer.config).initialise(seed).eval().requires_grad_(False)

    def embed(self, prompts: Sequence[str], negative_prompts: Sequence[str] | None = None) -> TextCondition:
        """Embeds prompts, equal ones once; without negative prompts guidance leads away from the empty text."""
        negatives = [""] * len(prompts) if negative_prompts is None else list(negative_prompts)
        t5, clip = self._embedded(prompts)
        negative_t5, negative_clip = self._embedded(negatives)
        return TextCondition(t5, clip, negative_t5, negative_clip)

    def _embedded(self, texts: Sequence[str]) -> tuple[list[torch.Tensor], torch.Tensor]:
        distinct = sorted(set(texts))
        t5, clip = self.text.encode_text(distinct)
        rows = [distinct.index(text) for text in texts]
        return [t5[row] for row in rows], clip[rows]

    def encode(self, frames: Frames) -> torch.Tensor:
        """Normalised latents of videos uint8 [B, T, H, W, 3] -> float32 [B, C, T', H', W'] on the CPU."""
        import torch

        video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        with torch.inference_mode():
            latent = self.autoencoder.encode(self._to_autoencoder(video)).float().cpu()
        return (latent - self.latent_mean) / self.latent_std

    def decode(self, latent: torch.Tensor) -> Frames:
        """Pixels of normalised latents: [B, C, T', H', W'] -> uint8 [B, T, H, W, 3]."""
        import torch

        with torch.inference_mode():
            video = self.autoencoder.decode(self._to_autoencoder(latent * self.latent_std + self.latent_mean))
        pixels = ((video.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 4, 1).contiguous().numpy()

    def _to_autoencoder(self, tensor: torch.Tensor) -> torch.Tensor:
        parameter = next(self.autoencoder.parameters())
        return tensor.to(parameter.device, parameter.dtype).contiguous()


def fit_picture(picture: Frames, height: int, width: int) -> Frames:
    """A picture uint8 [H', W', 3] scaled to cover [H, W, 3] and cropped around the centre; equal sizes stay."""
    from PIL import Image, ImageOps

    if picture.shape[:2] == (height, width):
        return picture
    fitted = ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.BILINEAR)
    return np.array(fitted)
