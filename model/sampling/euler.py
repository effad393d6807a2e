"""Euler steps from noise (t = 1) to data (t = 0).

Shapes: B videos, C latent channels, T, H, W latent frames, height and width, L text tokens, D widths.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoetrope.model.conditions import CONDITIONS, TEXT_TO_VIDEO, condition_latents
from zoetrope.model.flow import FlowConfig, model_time, shift_time
from zoetrope.model.packing import image_ids, patchify, text_ids, unpatchify
from zoetrope.model.sampling.config import SamplerConfig
from zoetrope.model.sampling.guidance import combine, image_weights

if TYPE_CHECKING:
    import torch

    from zoetrope.model.mmdit.model import MMDiT


@dataclass(frozen=True)
class TextCondition:
    """Embedded prompts, and what guidance leads away from.

    Attributes:
        t5: one [L, D] tensor per prompt.
        clip: pooled embeddings [B, D'].
        negative_t5: [L, D] per prompt, of its negative prompt (the empty text where it has none).
        negative_clip: [B, D'], likewise.
    """

    t5: Sequence[torch.Tensor]
    clip: torch.Tensor
    negative_t5: Sequence[torch.Tensor]
    negative_clip: torch.Tensor


@dataclass(frozen=True)
class VisualCondition:
    """Given frames.

    Attributes:
        kinds: of `conditions.CONDITIONS`, one per prompt.
        references: name -> latents [B, C, L, H, W]; row b is read where the kind of prompt b names it. Any length L
            that leaves something to make will do, whatever the model was trained on.
    """

    kinds: Sequence[str]
    references: Mapping[str, torch.Tensor]


def sample_latents(
    model: MMDiT,
    config: SamplerConfig,
    flow: FlowConfig,
    text: TextCondition,
    latent_shape: tuple[int, int, int, int],
    seeds: Sequence[int],
    *,
    visual: VisualCondition | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Samples one latent video per prompt; a video depends on its own prompt, frames and seed alone.

    Args:
        model: in evaluation mode; its device and dtype are used.
        config: how to sample.
        flow: the flow that the model was trained on.
        text: the prompts.
        latent_shape: (C, T, H, W); T = 1 makes images.
        seeds: one per prompt.
        visual: given frames; needs a model with `cond_embed`.
        on_step: called after every Euler step with (steps done, steps in all), over all batches.

    Returns:
        [B, C, T, H, W], float32, on the CPU, in the order of the prompts; given latent frames bit for bit where
        `overwrite_given_frames` says so.

    Raises:
        ValueError: as many seeds, negative prompts and kinds as prompts are wanted; the model takes no frames, has
            other channels, or a patch size that does not divide the latent; a reference does not fit.
    """
    import torch

    count = len(text.t5)
    _check(model, text, latent_shape, seeds, visual)
    patch = model.config.patch_size
    alpha = config.time_shift(flow, latent_shape, patch)
    times = shift_time(torch.linspace(1, 0, config.steps + 1, dtype=torch.float64), alpha).tolist()
    together = config.batch_size if config.batched_forwards else 1
    batches = range(0, count, together)
    finished, total = [], config.steps * len(batches)
    with torch.inference_mode():
        for number, start in enumerate(batches):
            rows = range(start, min(start + together, count))
            batch = _Batch(model, config, flow, text, visual, rows, latent_shape)
            x = torch.stack(
                [torch.randn(latent_shape, generator=torch.Generator().manual_seed(seeds[row])) for row in rows]
            )
            for index, (time, following) in enumerate(itertools.pairwise(times)):
                x = x + (following - time) * batch.velocity(x, time, index)
                if on_step is not None:
                    on_step(number * config.steps + index + 1, total)
            finished.append(batch.with_given_frames(x))
    return torch.cat(finished)


def _check(
    model: MMDiT,
    text: TextCondition,
    latent_shape: tuple[int, int, int, int],
    seeds: Sequence[int],
    visual: VisualCondition | None,
) -> None:
    count = len(text.t5)
    kinds = [TEXT_TO_VIDEO] * count if visual is None else visual.kinds
    if not len(seeds) == len(text.negative_t5) == len(kinds) == count:
        raise ValueError(
            f"{count} prompts need {count} seeds, negative prompts and, where frames are given, kinds; got "
            f"{len(seeds)}, {len(text.negative_t5)} and {len(kinds)}"
        )
    if latent_shape[0] != model.config.latent_channels:
        raise ValueError(
            f"latents of {latent_shape[0]} channels for a model of {model.config.latent_channels}: "
            "autoencoder and video model do not belong together"
        )
    unknown = [kind for kind in kinds if kind not in CONDITIONS]
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}; there are {', '.join(CONDITIONS)}")
    if visual is not None and not model.config.cond_embed:
        raise ValueError("this checkpoint takes no images (stage 1 is text to video); use a later stage's")


class _Batch:
    """Videos that share their forward passes."""

    def __init__(
        self,
        model: MMDiT,
        config: SamplerConfig,
        flow: FlowConfig,
        text: TextCondition,
        visual: VisualCondition | None,
        rows: range,
        latent_shape: tuple[int, int, int, int],
    ) -> None:
        import torch

        from zoetrope.model.text import pad_text

        self.model, self.config, self.flow = model, config, flow
        self.channels, self.frames, self.height, self.width = latent_shape
        weight = model.img_in.weight
        self.device, self.dtype = weight.device, weight.dtype
        size, patch, chosen = len(rows), model.config.patch_size, list(rows)
        self.kinds = [TEXT_TO_VIDEO] * size if visual is None else [visual.kinds[row] for row in rows]
        self.condition: torch.Tensor | None = None
        if visual is not None and set(self.kinds) != {TEXT_TO_VIDEO}:
            references = {name: latent[chosen].float().cpu() for name, latent in visual.references.items()}
            self.condition = condition_latents(self.kinds, references, self.frames)
        # see `guidance.combine` for their order
        self.forwards = 3 if self.condition is not None else 1 + (config.text_guidance != 1)
        negatives = self.forwards - 1
        t5, length = pad_text(
            [text.t5[row] for row in rows] + [text.negative_t5[row] for row in rows] * (negatives > 0)
        )
        order = [*range(size), *[*range(size, 2 * size)] * negatives]
        self.t5 = self._move(t5[order])
        self.t5_length = None if bool((length == t5.shape[1]).all()) else length[order].to(self.device)
        self.clip = self._move(torch.cat([text.clip[chosen], *[text.negative_clip[chosen]] * negatives]))
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

    def with_given_frames(self, x: torch.Tensor) -> torch.Tensor:
        """The videos with their given latent frames in place."""
        import torch

        if self.condition is None or not self.config.overwrite_given_frames:
            return x
        return torch.where(self.condition[:, :1] > 0, self.condition[:, 1:], x)

    def velocity(self, x: torch.Tensor, time: float, index: int) -> torch.Tensor:
        """Guided dx/dt of the videos x at a step, [B, C, T, H, W] float32 on the CPU."""
        import torch

        patch = self.model.config.patch_size
        tokens = self._move(patchify(x.repeat(self.forwards, 1, 1, 1, 1), patch))
        out = self.model(
            tokens,
            self.image_ids,
            self.t5,
            self.text_ids,
            model_time(self.flow, torch.full((len(tokens),), time, device=self.device), self.dtype),
            self.clip,
            cond=self.packed_condition,
            txt_len=self.t5_length,
        )
        velocity = self.flow.sign * unpatchify(out.float().cpu(), self.frames, self.height, self.width, patch)
        text_weight, _ = self.config.guidance(index)
        return combine(
            velocity.chunk(self.forwards),
            text_weight,
            image_weights(self.config, index, self.kinds, self.frames),
        )
