"""Ulysses context parallelism: each process has a part of every sequence, and in attention a part of the heads.

Text and image are split apart, each into consecutive parts whose lengths differ by at most one, so that every process
has the work of both streams. Around attention two exchanges of all with all turn parts of the sequence with all heads
into the whole sequence with some heads, and back (DeepSpeed-Ulysses, arXiv 2309.14509).

Shape letters: B batch (1 when packed), S whole joint sequence, s this process' part of it, K heads, E head dimension,
c processes of the group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd

from zoetrope.model.mmdit.layout import WholeLayout, spread


def part_lengths(tokens: int, parts: int) -> list[int]:
    """Lengths of consecutive parts that differ by at most one, longer ones first; parts of 0 tokens are possible."""
    short, longer = divmod(tokens, parts)
    return [short + (index < longer) for index in range(parts)]


class UlyssesLayout:
    """This process' part of a joint sequence, text first (see `layout.Layout`)."""

    def __init__(self, whole: WholeLayout, text_tokens: int, image_tokens: int, group: dist.ProcessGroup) -> None:
        """Takes the part of this process.

        Args:
            whole: layout of the whole sequence, with the attention that runs on it.
            text_tokens: of the whole sequence.
            image_tokens: of the whole sequence.
            group: the processes that share it.
        """
        self._whole, self._group = whole, group
        self._parts, rank = group.size(), group.rank()
        texts, images = part_lengths(text_tokens, self._parts), part_lengths(image_tokens, self._parts)
        self._text = slice(sum(texts[:rank]), sum(texts[: rank + 1]))
        self._image = slice(sum(images[:rank]), sum(images[: rank + 1]))
        self._text_tokens, self._images = texts[rank], images
        self._lengths = [text + image for text, image in zip(texts, images, strict=True)]
        self._own = self._lengths[rank]
        text_samples, image_samples = whole.text_samples, whole.image_samples
        self._text_samples = None if text_samples is None else text_samples[self._text]
        self._image_samples = None if image_samples is None else image_samples[self._image]
        self._joint_samples = None
        if self._text_samples is not None and self._image_samples is not None:
            self._joint_samples = torch.cat([self._text_samples, self._image_samples])
        # exchanged tokens come as [text, image] of the first process, then of the second, ...
        positions = torch.arange(text_tokens + image_tokens, device=whole.device)
        pieces = zip(
            torch.split(positions[:text_tokens], texts), torch.split(positions[text_tokens:], images), strict=True
        )
        came = torch.cat([piece for pair in pieces for piece in pair])
        wanted = whole.join(positions[None, :text_tokens], positions[None, text_tokens:])[0]
        self._order = torch.argsort(came)[wanted]
        self._back = torch.argsort(self._order)

    def own_text(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        return tokens[:, self._text]

    def own_image(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        return tokens[:, self._image]

    def whole_image(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        out: Tensor = _Gather.apply(tokens, self._images, self._group)  # type: ignore[no-untyped-call]
        return out

    def join(self, txt: Tensor, img: Tensor) -> Tensor:
        """See `Layout`."""
        return torch.cat([txt, img], dim=1)

    def split(self, joint: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layout`."""
        return joint[:, : self._text_tokens], joint[:, self._text_tokens :]

    def for_text(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self._text_samples)

    def for_image(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self._image_samples)

    def for_joint(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self._joint_samples)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Layout`: [B, s, K, E] each -> [B, s, K, E]."""
        parts, own = self._parts, self._own
        batch, _, heads, width = value.shape
        some = heads // parts
        stacked = torch.stack([query, key, value]).view(3, batch, own, parts, some, width)
        sent = stacked.permute(3, 2, 1, 0, 4, 5).reshape(parts * own, batch, 3, some, width)
        came = _exchange(sent, self._lengths, [own] * parts, self._group).index_select(0, self._order)
        query, key, value = came.permute(2, 1, 0, 3, 4).unbind()  # [B, S, K/c, E] each
        attended = self._whole.attend(query, key, value).transpose(0, 1).index_select(0, self._back)
        back = _exchange(attended, [own] * parts, self._lengths, self._group)  # [c s, B, K/c, E]
        back = back.view(parts, own, batch, some, width)
        return back.permute(2, 1, 0, 3, 4).reshape(batch, own, heads, width)


def _exchange(tokens: Tensor, received: list[int], sent: list[int], group: dist.ProcessGroup) -> Tensor:
    """All with all along the first dimension, differentiable."""
    return all_to_all_single_autograd(tokens.contiguous(), received, sent, group)


class _Gather(torch.autograd.Function):
    """Parts of different lengths [B, n, C] to the whole [B, N, C], the same on all processes.

    Every process computes the whole loss from it, and so the whole gradient; it takes its part c times, since weights'
    gradients are means over all processes, while those of a context group have to be summed.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, lengths: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.lengths, ctx.rank = lengths, group.rank()
        missing = max(lengths) - tokens.shape[1]
        padded = torch.nn.functional.pad(tokens, (0, 0, 0, missing)).contiguous()
        gathered = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(gathered, padded, group)
        return torch.cat([each[:, :length] for each, length in zip(gathered, lengths, strict=True)], dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        start = sum(ctx.lengths[: ctx.rank])
        own = gradient[:, start : start + ctx.lengths[ctx.rank]]
        return own * len(ctx.lengths), None, None
