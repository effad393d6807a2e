"""What training gets: samples of their own lengths, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LatentSample:
    """A clip in a bucket; latents are normalised to unit variance per channel.

    Attributes:
        row: of the clip in its `LatentDataset`.
        bucket: name of the bucket.
        clip_id: identity of the clip.
        caption: its caption.
        latent: [C, T, H, W] the clip.
        references: name -> [C, L, H, W] frames at its ends, encoded by themselves, see `LatentBatch`.
        t5: [L, D] T5 embedding of the caption, at its own length.
        clip: [D'] pooled CLIP text embedding.
    """

    row: int
    bucket: str
    clip_id: str
    caption: str
    latent: Tensor
    references: Mapping[str, Tensor]
    t5: Tensor
    clip: Tensor


@dataclass(frozen=True)
class LatentBatch:
    """Samples of one bucket; latents are normalised to unit variance per channel.

    Attributes:
        latent: [B, C, T, H, W] the clip.
        references: name -> [B, C, L, H, W] frames at its ends, encoded by themselves: `head` and `tail` are its
            first and last frame (L = 1), the others are those of `conditions` that were asked for.
        t5: [B, L, D] T5 embeddings of the captions, zero beyond each one's length.
        t5_length: [B] int64, number of tokens of each caption.
        clip: [B, D] pooled CLIP text embeddings.
        clip_ids: identities of the clips, in the order asked for.
        captions: their captions.
    """

    latent: Tensor
    references: Mapping[str, Tensor]
    t5: Tensor
    t5_length: Tensor
    clip: Tensor
    clip_ids: tuple[str, ...]
    captions: tuple[str, ...]


def collate(samples: Sequence[LatentSample]) -> LatentBatch:
    """Puts samples of one bucket together, texts padded with zeros to the longest one.

    Raises:
        ValueError: there is none, or they are of several buckets.
    """
    import torch

    buckets = sorted({sample.bucket for sample in samples})
    if len(buckets) != 1:
        raise ValueError(f"a batch holds samples of one bucket, not of {', '.join(buckets) or 'none'}")
    texts = [sample.t5 for sample in samples]
    return LatentBatch(
        latent=torch.stack([sample.latent for sample in samples]),
        references={
            name: torch.stack([sample.references[name] for sample in samples]) for name in samples[0].references
        },
        t5=torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
        t5_length=torch.tensor([len(text) for text in texts]),
        clip=torch.stack([sample.clip for sample in samples]),
        clip_ids=tuple(sample.clip_id for sample in samples),
        captions=tuple(sample.caption for sample in samples),
    )
