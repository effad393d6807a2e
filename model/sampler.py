"""Sampling videos: Euler steps along the learned flow with text and image guidance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zoetrope.model.conditions import condition_latents
from zoetrope.model.flow import FlowConfig, shift_time, time_shift
from zoetrope.model.packing import image_ids, patchify, text_ids, unpatchify

if TYPE_CHECKING:
    import torch

    from zoetrope.model.mmdit.model import MMDiT


@dataclass(frozen=True)
class SamplerConfig:
    """How a video is sampled; the defaults are Open-Sora 2.0's.

    Attributes:
        steps: Euler steps.
        text_guidance: weight of the text (1 = no guidance).
        image_guidance: weight of the given image, where one is given.
        oscillation: after step `oscillation_start` every odd step runs without image guidance.
        oscillation_text: the same for text guidance (the released code does it, the paper does not).
        oscillation_start: index of the last step before the oscillation.
        dynamic_image_guidance: image guidance grows along the video's frames and shrinks along the steps.
        overwrite_given_frames: given latent frames replace the sampled ones at the end.
        shift: fixed time shift; 0 means the flow's.
        batch_size: videos that run together; part of the result only through rounding.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 50
    text_guidance: float = 7.5
    image_guidance: float = 3.0
    oscillation: bool = True
    oscillation_text: bool = True
    oscillation_start: int = 10
    dynamic_image_guidance: bool = True
    overwrite_given_frames: bool = True
    shift: float = 0.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError for settings that cannot be sampled with."""
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps} and batch_size {self.batch_size} have to be at least 1")

    def guidance(self, index: int) -> tuple[float, float]:
        """Text and image guidance of step `index` (from 0)."""
        quiet = self.oscillation and index > self.oscillation_start and index % 2 == 1
        text = 1.0 if quiet and self.oscillation_text else self.text_guidance
        return text, 1.0 if quiet else self.image_guidance


@dataclass(frozen=True)
class TextCondition:
    """Embedded prompts, and the embedding of the empty prompt for guidance.

    Attributes:
        t5: one [L, D] tensor per prompt.
        clip: pooled embeddings [B, D'].
        null_t5: [L, D] of the empty prompt.
        null_clip: [D'] of the empty prompt.
    """

    t5: Sequence[torch.Tensor]
    clip: torch.Tensor
    null_t5: torch.Tensor
    null_clip: torch.Tensor


@dataclass(frozen=True)
class ImageCondition:
    """Given frames, one kind per prompt.

    Attributes:
        kinds: of `conditions.GIVEN_FRAMES`.
        head: latents of the first frames [B, C, 1, H, W] (read where the kind gives the first frame).
        tail: latents of the last frames, likewise.
    """

    kinds: Sequence[str]
    head: torch.Tensor
    tail: torch.Tensor


def sample_latents(
    model: MMDiT,
    config: SamplerConfig,
    flow: FlowConfig,
    text: TextCondition,
    latent_shape: tuple[int, int, int, int],
    seeds: Sequence[int],
    *,
    image: ImageCondition | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Samples one latent video per prompt; the noise of a video depends on its seed alone.

    Args:
        model: in evaluation mode; its device and dtype are used.
        config: how to sample.
        flow: the flow that the model was trained on (its `shift` holds where the sampler's is 0).
        text: the prompts.
        latent_shape: (C, T, H, W).
        seeds: one per prompt.
        image: given frames; needs a model with `cond_embed`.
        on_batch: called with the number of finished videos after each batch.

    Returns:
        [B, C, T, H, W], float32, on the CPU, in the order of the prompts.

    Raises:
        ValueError: as many seeds or images as prompts are wanted, or the model takes no images.
    """
    import torch

    count = len(text.t5)
    if len(seeds) != count or (image is not None and len(image.kinds) != count):
        raise ValueError(f"{count} prompts need {count} seeds and, where images are given, {count} kinds")
    if image is not None and not model.config.cond_embed:
        raise ValueError("this checkpoint takes no images (stage 1 is text to video); use a later stage's")
    finished = []
    with torch.inference_mode():
        for start in range(0, count, config.batch_size):
            rows = range(start, min(start + config.batch_size, count))
            noise = torch.stack(
                [torch.randn(latent_shape, generator=torch.Generator().manual_seed(seeds[row])) for row in rows]
            )
            batch = _Batch(model, config, text, image, rows, latent_shape)
            alpha = config.shift or flow.shift or time_shift(latent_shape, model.config.patch_size)
            finished.append(batch.run(noise, alpha))
            if on_batch is not None:
                on_batch(rows.stop)
    return torch.cat(finished)


class _Batch:
    """Videos that are sampled together."""

    def __init__(
        self,
        model: MMDiT,
        config: SamplerConfig,
        text: TextCondition,
        image: ImageCondition | None,
        rows: range,
        latent_shape: tuple[int, int, int, int],
    ) -> None:
        import torch

        from zoetrope.model.text import pad_text

        self.model, self.config = model, config
        self.channels, self.frames, self.height, self.width = latent_shape
        weight = model.img_in.weight
        self.device, self.dtype = weight.device, weight.dtype
        size, patch = len(rows), model.config.patch_size
        self.condition: torch.Tensor | None = None
        if image is not None:
            chosen = list(rows)
            self.condition = condition_latents(
                [image.kinds[row] for row in rows], image.head[chosen], image.tail[chosen], self.frames
            )
        # forwards of a step, in this order: text and image, image alone, neither
        self.forwards = 3 if self.condition is not None else 1 + (config.text_guidance != 1)
        t5, length = pad_text([*(text.t5[row] for row in rows), text.null_t5])
        repeats = self.forwards - 1
        self.t5 = self._move(torch.cat([t5[:-1], t5[-1:].expand(size * repeats, -1, -1)]))
        lengths = torch.cat([length[:-1], length[-1:].expand(size * repeats)])
        self.t5_length = None if bool((lengths == t5.shape[1]).all()) else lengths.to(self.device)
        null_clip = text.null_clip[None].expand(size * repeats, -1)
        self.clip = self._move(torch.cat([text.clip[list(rows)], null_clip]))
        total = size * self.forwards
        self.image_ids = image_ids(total, self.frames, self.height, self.width, patch).to(self.device)
        self.text_ids = text_ids(total, t5.shape[1]).to(self.device)
        self.packed_condition = self._packed_condition(size)

    def _move(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, self.dtype)

    def _packed_condition(self, size: int) -> torch.Tensor | None:
        import torch

        if not self.model.config.cond_embed:
            return None
        if self.condition is None:
            shape = (size * self.forwards, 1 + self.channels, self.frames, self.height, self.width)
            return self._move(patchify(torch.zeros(shape), self.model.config.patch_size))
        stacked = torch.cat([self.condition, self.condition, torch.zeros_like(self.condition)])
        return self._move(patchify(stacked, self.model.config.patch_size))

    def run(self, noise: torch.Tensor, alpha: float) -> torch.Tensor:
        """Walks from noise (t = 1) to data (t = 0)."""
        import torch

        times = shift_time(torch.linspace(1, 0, self.config.steps + 1, dtype=torch.float64), alpha).tolist()
        x = noise
        for index, (time, following) in enumerate(itertools.pairwise(times)):
            x = x + (following - time) * self._velocity(x, time, index)
        if self.condition is not None and self.config.overwrite_given_frames:
            mask = self.condition[:, :1]
            x = x * (1 - mask) + self.condition[:, 1:] * mask
        return x

    def _velocity(self, x: torch.Tensor, time: float, index: int) -> torch.Tensor:
        import torch

        patch = self.model.config.patch_size
        tokens = self._move(patchify(x.repeat(self.forwards, 1, 1, 1, 1), patch))
        times = torch.full((len(tokens),), time, device=self.device)
        out = self.model(
            tokens,
            self.image_ids,
            self.t5,
            self.text_ids,
            times,
            self.clip,
            cond=self.packed_condition,
            txt_len=self.t5_length,
        )
        velocity = unpatchify(out.float().cpu(), self.frames, self.height, self.width, patch)
        both, *rest = velocity.chunk(self.forwards)
        text_weight, image_weight = self.config.guidance(index)
        if not rest:
            return both
        if self.condition is None:
            return rest[0] + text_weight * (both - rest[0])
        image_only, neither = rest
        weight = self._image_weight(image_weight, index)
        return neither + weight * (image_only - neither) + text_weight * (both - image_only)

    def _image_weight(self, weight: float, index: int) -> torch.Tensor:
        """Image guidance per latent frame [T, 1, 1]: growing along the video, less so in later steps."""
        import torch

        last = weight
        if self.config.dynamic_image_guidance and weight > 1:
            last = torch.linspace(weight, 1, self.config.steps + 1)[index].item()
            return torch.linspace(1, last, self.frames).view(-1, 1, 1)
        return torch.full((self.frames, 1, 1), last)
