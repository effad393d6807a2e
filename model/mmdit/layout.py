"""How text and image tokens lie in the joint sequence: a padded batch, or samples packed one after the other.

Shape letters: B batch (1 when packed), L text tokens, N image tokens, S = L + N, D features, K heads, E head
dimension, n samples.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from zoetrope.model.attention import Attend, AttendPacked, PackedLengths


def spread(vectors: Tensor, samples: Tensor | None) -> Tensor:
    """One vector per sample [n, D] to what adds to tokens.

    Args:
        vectors: [n, D].
        samples: index of each token's sample [S]; None where the samples are the batch.

    Returns:
        [1, S, D], or [n, 1, D].
    """
    return vectors[:, None] if samples is None else vectors.index_select(0, samples)[None]


class Layout(Protocol):
    """What the model needs to know of the sequence.

    Where processes share a sequence, `own_text` and `own_image` are this one's part, on which all else works.
    """

    def own_text(self, tokens: Tensor) -> Tensor:
        """All text tokens [B, L, ...] to those that this process works on."""
        ...

    def own_image(self, tokens: Tensor) -> Tensor:
        """The same for image tokens [B, N, ...]."""
        ...

    def whole_image(self, tokens: Tensor) -> Tensor:
        """The inverse of `own_image`, on all processes."""
        ...

    def join(self, txt: Tensor, img: Tensor) -> Tensor:
        """Text [B, L, ...] and image [B, N, ...] to the joint sequence [B, S, ...], text of a sample first."""
        ...

    def split(self, joint: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `join`."""
        ...

    def for_text(self, vectors: Tensor) -> Tensor:
        """One vector per sample [n, D] to what adds to text tokens: [B, 1 or L, D]."""
        ...

    def for_image(self, vectors: Tensor) -> Tensor:
        """The same for image tokens."""
        ...

    def for_joint(self, vectors: Tensor) -> Tensor:
        """The same for the joint sequence."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, S, K, E] each -> [B, S, K, E]."""
        ...


class WholeLayout:
    """A layout of one process, which has all tokens.

    Attributes:
        device: of the tokens.
        text_samples: sample of each text token [L]; None where the samples are the batch.
        image_samples: sample of each image token [N], likewise.
    """

    device: torch.device
    text_samples: Tensor | None = None
    image_samples: Tensor | None = None

    def own_text(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        return tokens

    own_image = whole_image = own_text

    def join(self, txt: Tensor, img: Tensor) -> Tensor:
        """See `Layout`."""
        raise NotImplementedError

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Layout`."""
        raise NotImplementedError


class PaddedLayout(WholeLayout):
    """A batch of samples of equal length, or padded to it with a mask."""

    def __init__(self, text_tokens: int, attend: Attend, mask: Tensor | None, device: torch.device) -> None:
        """`mask`: bool [B, 1, 1, S], True where a key takes part; None where all do."""
        self._text_tokens, self._attend, self._mask, self.device = text_tokens, attend, mask, device

    def join(self, txt: Tensor, img: Tensor) -> Tensor:
        """See `Layout`."""
        return torch.cat([txt, img], dim=1)

    def split(self, joint: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layout`."""
        return joint[:, : self._text_tokens], joint[:, self._text_tokens :]

    def for_text(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, None)

    for_image = for_joint = for_text

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Layout`."""
        return self._attend(query, key, value, self._mask)


class PackedLayout(WholeLayout):
    """Samples of different lengths in one sequence, none of which sees another."""

    def __init__(self, text: PackedLengths, image: PackedLengths, attend: AttendPacked) -> None:
        """Raises ValueError where text and image are not of the same number of samples."""
        if len(text.each) != len(image.each):
            raise ValueError(f"{len(text.each)} packed texts and {len(image.each)} packed videos do not fit")
        device = self.device = image.cumulative.device
        self._attend, self._text_tokens = attend, text.total
        self._joint = PackedLengths.of([a + b for a, b in zip(text.each, image.each, strict=True)], device)
        self.text_samples, self.image_samples = text.samples(), image.samples()
        self._joint_samples = self._joint.samples()
        # position in [all texts, all images] of every token of the joint sequence, and back
        apart = torch.cat([self.text_samples, self.image_samples])
        self._order = torch.argsort(apart, stable=True)
        self._back = torch.argsort(self._order)

    def join(self, txt: Tensor, img: Tensor) -> Tensor:
        """See `Layout`."""
        return torch.cat([txt, img], dim=1).index_select(1, self._order)

    def split(self, joint: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layout`."""
        apart = joint.index_select(1, self._back)
        return apart[:, : self._text_tokens], apart[:, self._text_tokens :]

    def for_text(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self.text_samples)

    def for_image(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self.image_samples)

    def for_joint(self, vectors: Tensor) -> Tensor:
        """See `Layout`."""
        return spread(vectors, self._joint_samples)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Layout`."""
        return self._attend(query[0], key[0], value[0], self._joint)[None]


def key_mask(txt_len: Tensor | None, img_len: Tensor | None, text_tokens: int, image_tokens: int) -> Tensor | None:
    """Which keys of a padded batch take part.

    Args:
        txt_len: valid text tokens [B]; None: all.
        img_len: valid image tokens [B]; None: all.
        text_tokens: L of the padded batch.
        image_tokens: N of the padded batch.

    Returns:
        bool [B, 1, 1, L + N], or None where all take part.
    """
    given = txt_len if txt_len is not None else img_len
    if given is None:
        return None
    parts = []
    for length, tokens in ((txt_len, text_tokens), (img_len, image_tokens)):
        positions = torch.arange(tokens, device=given.device)[None]
        parts.append((positions < (tokens if length is None else length[:, None])).expand(len(given), -1))
    return torch.cat(parts, dim=1)[:, None, None]
