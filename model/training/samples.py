"""Training samples with all their randomness drawn, and packs of them: what goes into one forward pass.

Everything random about a sample comes from (seed, epoch, clip), so it is the same whichever process takes it, in
whatever pack, and again when a run is resumed.

Shape letters: n samples of a pack, N image tokens and L text tokens of all of them, D features of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from zoetrope.model.attention import PackedLengths
from zoetrope.model.conditions import TEXT_TO_VIDEO, condition_latents, draw_conditions, fitting_weights, given_frames
from zoetrope.model.flow import FlowConfig, noisy_sample_and_target, time_of
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.packing import image_ids, patchify
from zoetrope.model.training.config import StageConfig
from zoetrope.model.training.process_group import generator_for


class LatentSample(Protocol):
    """One clip in one bucket; see `data.samples.LatentSample`."""

    @property
    def clip_id(self) -> str:
        """Identity of the clip."""
        ...

    @property
    def latent(self) -> Tensor:
        """[C, T, H, W]."""
        ...

    @property
    def references(self) -> Mapping[str, Tensor]:
        """Name -> [C, T', H, W], see `conditions`."""
        ...

    @property
    def t5(self) -> Tensor:
        """[L, D]."""
        ...

    @property
    def clip(self) -> Tensor:
        """[D']."""
        ...


@dataclass(frozen=True)
class DrawnSample:
    """One sample of a step.

    Attributes:
        noisy: latent tokens [N, D] at `time` of the flow.
        target: velocity there [N, D].
        ids: positions (t, h, w) [N, 3].
        cond: condition tokens [N, D'], or None where the model takes none.
        counted: which tokens the loss counts, bool [N]; None: all.
        time: of the flow, scalar.
        t5: text embeddings [L, D''].
        clip: pooled text embedding [D'''].
        kind: of condition, of `conditions.CONDITIONS`.
        name: identity of the clip.
    """

    noisy: Tensor
    target: Tensor
    ids: Tensor
    cond: Tensor | None
    counted: Tensor | None
    time: Tensor
    t5: Tensor
    clip: Tensor
    kind: str
    name: str


def draw_samples(
    samples: Sequence[LatentSample],
    places: Sequence[tuple[int, int]],
    stage: StageConfig,
    flow: FlowConfig,
    config: MMDiTConfig,
    empty_text: tuple[Tensor, Tensor],
) -> list[DrawnSample]:
    """Draws time, noise, condition and dropped texts of samples.

    Args:
        samples: their content.
        places: (epoch, clip) of each, with the stage's seed all that its numbers depend on.
        stage: seed, conditions, dropout, what the loss counts.
        flow: the flow.
        config: of the model.
        empty_text: T5 [L, D] and CLIP [D'] embeddings of the empty caption.
    """
    drawn: dict[int, DrawnSample] = {}
    groups: dict[torch.Size, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.latent.shape, []).append(index)
    for indices in groups.values():  # what is alike in shape is computed at once
        chosen = [samples[index] for index in indices]
        found = _draw_alike(chosen, [places[index] for index in indices], stage, flow, config, empty_text)
        drawn |= dict(zip(indices, found, strict=True))
    return [drawn[index] for index in range(len(samples))]


def _draw_alike(
    samples: Sequence[LatentSample],
    places: Sequence[tuple[int, int]],
    stage: StageConfig,
    flow: FlowConfig,
    config: MMDiTConfig,
    empty_text: tuple[Tensor, Tensor],
) -> list[DrawnSample]:
    patch_size = config.patch_size
    latent = torch.stack([sample.latent for sample in samples]).float()
    count, channels, frames, height, width = latent.shape
    noise, dropped, kinds, normal = torch.empty_like(latent), [], [], []
    references = {
        name: torch.stack([sample.references[name] for sample in samples]).float() for name in samples[0].references
    }
    weights = fitting_weights(stage.conditions, references, frames)
    for index, place in enumerate(places):
        generator = generator_for(stage.seed, *place)
        dropped.append((torch.rand(2, generator=generator) < stage.text_dropout).tolist())
        if config.cond_embed:
            kinds += draw_conditions(weights, 1, generator)
        normal.append(torch.randn(1, generator=generator))
        torch.randn(latent.shape[1:], generator=generator, out=noise[index])
    time = time_of(flow, torch.cat(normal), (channels, frames, height, width), patch_size)
    noisy, target = (patchify(each, patch_size) for each in noisy_sample_and_target(flow, latent, noise, time))
    conds: Sequence[Tensor | None] = [None] * count
    counted: Sequence[Tensor | None] = [None] * count
    if config.cond_embed:
        condition = condition_latents(kinds, references, frames)
        conds = patchify(condition, patch_size).unbind()
        if stage.exclude_given_frames:
            tokens = height * width // patch_size**2  # of a frame
            counted = (~given_frames(condition).repeat_interleave(tokens, dim=1)).unbind()
    ids = image_ids(1, frames, height, width, patch_size)[0]
    return [
        DrawnSample(
            noisy=noisy[index],
            target=target[index],
            ids=ids,
            cond=conds[index],
            counted=counted[index],
            time=time[index],
            t5=(empty_text[0] if dropped[index][0] else sample.t5).float(),
            clip=(empty_text[1] if dropped[index][1] else sample.clip).float(),
            kind=kinds[index] if kinds else TEXT_TO_VIDEO,
            name=sample.clip_id,
        )
        for index, sample in enumerate(samples)
    ]


@dataclass(frozen=True)
class Pack:
    """Samples that lie one after the other in one sequence, none of which sees another.

    Attributes:
        noisy: latent tokens [N, D].
        target: velocities [N, D].
        ids: positions [N, 3].
        cond: condition tokens [N, D'], or None.
        counted: tokens that the loss counts, bool [N]; None: all.
        weight: of each token's mean squared error in the loss, float32 [N]: one over the counted tokens of its
            sample, or 1 where the mean is over all tokens at once.
        time: [n].
        t5: text embeddings of all samples [L, D''].
        clip: pooled embeddings [n, D'''].
        images: where each sample's image tokens begin and end.
        texts: likewise its text tokens.
        text_ids: positions of the text tokens, zeros [L, 3].
        kinds: of condition, of each sample.
        names: identity of each sample's clip.
        losses: of the samples [n], put there when they are known.
    """

    noisy: Tensor
    target: Tensor
    ids: Tensor
    cond: Tensor | None
    counted: Tensor | None
    weight: Tensor
    time: Tensor
    t5: Tensor
    clip: Tensor
    images: PackedLengths
    texts: PackedLengths
    text_ids: Tensor
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    losses: list[Tensor] = field(default_factory=list)

    def to(self, device: torch.device) -> Pack:
        """The pack on a device; from pinned memory the copy runs beside what the device computes."""
        if device.type == "cpu":
            return self
        return self._each(lambda each: each.to(device, non_blocking=True))

    def pinned(self) -> Pack:
        """The pack in pinned memory of the host."""
        return self._each(lambda each: each.pin_memory())

    def _each(self, change: Callable[[Tensor | PackedLengths], Tensor | PackedLengths]) -> Pack:
        changed: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor | PackedLengths)
        }
        return replace(self, **changed)


def make_pack(samples: Sequence[DrawnSample], mean: Literal["samples", "elements"] = "samples") -> Pack:
    """Packs samples; `mean` says what the loss is a mean over, see `Pack.weight`."""
    texts = [len(sample.t5) for sample in samples]
    conds = [sample.cond for sample in samples if sample.cond is not None]
    masks = [sample.counted for sample in samples if sample.counted is not None]
    lengths = tuple(len(sample.noisy) for sample in samples)
    counts = [length if sample.counted is None else sample.counted.sum()
              for sample, length in zip(samples, lengths, strict=True)]  # fmt: skip
    shares = [1.0 if mean == "elements" else 1.0 / max(1, int(count)) for count in counts]
    return Pack(
        noisy=torch.cat([sample.noisy for sample in samples]),
        target=torch.cat([sample.target for sample in samples]),
        ids=torch.cat([sample.ids for sample in samples]),
        cond=torch.cat(conds) if conds else None,
        counted=torch.cat(masks) if masks else None,
        weight=torch.tensor(shares).repeat_interleave(torch.tensor(lengths)),
        time=torch.stack([sample.time for sample in samples]),
        t5=torch.cat([sample.t5 for sample in samples]),
        clip=torch.stack([sample.clip for sample in samples]),
        images=PackedLengths.of(lengths),
        texts=PackedLengths.of(texts),
        text_ids=torch.zeros(sum(texts), 3, dtype=torch.int64),
        kinds=tuple(sample.kind for sample in samples),
        names=tuple(sample.name for sample in samples),
    )
