"""The multimodal diffusion transformer of Open-Sora 2.0 (architecture of FLUX, with time as third rotary axis)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoetrope.model.attention import AUTO, AttentionChoice, PackedLengths, choose_attention
from zoetrope.model.mmdit.config import TIME_FEATURES, MMDiTConfig
from zoetrope.model.mmdit.initial import initialise
from zoetrope.model.mmdit.inputs import check_inputs, cumulative, valid_tokens
from zoetrope.model.mmdit.layers import (
    DoubleStreamBlock,
    LastLayer,
    MLPEmbedder,
    SingleStreamBlock,
    rotary_table,
    timestep_embedding,
)
from zoetrope.model.mmdit.layout import Layout, PackedLayout, PaddedLayout, WholeLayout, key_mask

ShareSequence = Callable[[WholeLayout, int, int], Layout]


class MMDiT(nn.Module):
    """Predicts the velocity of noisy latent tokens, given text, time and, optionally, reference frames.

    State-dict keys and shapes are those of `Open_Sora_v2.safetensors`.
    """

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_name = AUTO
        self._attention: AttentionChoice | None = None
        self._share: ShareSequence | None = None
        width = config.hidden_size
        self.img_in = nn.Linear(config.in_channels, width)
        self.time_in = MLPEmbedder(TIME_FEATURES, width)
        self.vector_in = MLPEmbedder(config.vec_in_dim, width)
        if config.cond_embed:
            self.cond_in = nn.Linear(config.cond_channels, width)
        self.txt_in = nn.Linear(config.context_in_dim, width)
        self.double_blocks = nn.ModuleList(DoubleStreamBlock(config) for _ in range(config.depth))
        self.single_blocks = nn.ModuleList(SingleStreamBlock(config) for _ in range(config.depth_single_blocks))
        self.final_layer = LastLayer(config)

    def initialise(self, seed: int) -> MMDiT:
        """Fills all weights from a seed: Xavier for matrices, zero for biases and for what a new model must not add.

        Modulations, the last projection and cond_in start at zero, so that every block begins as the identity
        (adaLN-zero) and an image condition begins as no change of the text-to-video model. A sharded model gets the
        same values, whatever the mesh: every rank draws one weight at a time and keeps its part.
        """
        initialise(self, seed)
        return self

    def choose_attention(
        self, name: str = AUTO, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> AttentionChoice:
        """Chooses the attention kernel (see `attention.choose_attention`); without a call, `auto` at first use.

        Args:
            name: of a backend, or `auto`.
            dtype: that attention runs in, where autocast or sharding makes it another than the weights'.
            device: that it runs on, where the weights are still on the meta device.
        """
        weight = self.img_in.weight
        self.attention_name = name
        self._attention = choose_attention(name, device or weight.device, dtype or weight.dtype)
        return self._attention

    def share_sequence(self, share: ShareSequence) -> None:
        """Makes this process work on its part of every sequence (see `parallel.context`).

        Args:
            share: (whole layout, text tokens, image tokens) -> layout of this process.
        """
        self._share = share

    @property
    def attention(self) -> AttentionChoice:
        """The attention kernel that serves."""
        return self._attention or self.choose_attention()

    def forward(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        cond: Tensor | None = None,
        img_len: Tensor | None = None,
        txt_len: Tensor | None = None,
        *,
        packed: tuple[PackedLengths, PackedLengths] | None = None,
    ) -> Tensor:
        """Predicts the velocity of a padded batch (for samples packed in one sequence see `forward_packed`).

        Args:
            img: noisy latent tokens [B, N, in_channels].
            img_ids: positions (t, h, w) [B, N, 3].
            txt: T5 embeddings [B, L, context_in_dim].
            txt_ids: zeros [B, L, 3].
            timesteps: [B] in [0, 1], in the precision in which the model is to read them (see `flow.model_time`).
            y_vec: pooled CLIP embedding [B, vec_in_dim].
            cond: packed mask and reference latents [B, N, cond_channels]; None for text alone.
            img_len: valid image tokens [B]; the others take no part and come out as zeros. None: all are valid.
            txt_len: valid text tokens [B]; the others take no part. None: all do (as the released model was
                trained).
            packed: lengths of texts and of videos, where the batch is one packed sequence.

        Returns:
            [B, N, in_channels], in the dtype of the weights.

        Raises:
            ValueError: shapes that do not fit the configuration or each other.
        """
        check_inputs(self.config, img, img_ids, txt, txt_ids, timesteps, y_vec, cond, packed)
        if packed is None and (img_len is not None or txt_len is not None) and not self.attention.backend.takes_mask:
            return self._unpadded(img, img_ids, txt, txt_ids, timesteps, y_vec, cond, img_len, txt_len)
        layout = self._layout(txt, img, img_len, txt_len, packed)
        dtype = self.img_in.weight.dtype
        x = self.img_in(layout.own_image(img).to(dtype))
        if cond is not None:
            x = x + self.cond_in(layout.own_image(cond).to(dtype))
        vector = self.time_in(timestep_embedding(timesteps, TIME_FEATURES).to(dtype)) + self.vector_in(y_vec.to(dtype))
        text = self.txt_in(layout.own_text(txt).to(dtype))
        ids = layout.join(layout.own_text(txt_ids), layout.own_image(img_ids))
        rotary = rotary_table(ids, self.config.axes_dim, self.config.theta)
        for block in self.double_blocks:
            x, text = block(x, text, vector, rotary, layout)
        joint = layout.join(text, x)
        for block in self.single_blocks:
            joint = block(joint, vector, rotary, layout)
        out = layout.whole_image(self.final_layer(layout.split(joint)[1], vector, layout))
        if img_len is not None:
            out = out * valid_tokens(out, img_len)[..., None]
        return out

    def forward_packed(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        img_cumulative: Tensor,
        txt_cumulative: Tensor,
        cond: Tensor | None = None,
    ) -> Tensor:
        """Predicts the velocity of n samples of different lengths that lie one after the other in one sequence.

        Equal to the padded call with lengths, without the work for padding. N and L are sums over the samples.

        Args:
            img: noisy latent tokens [N, in_channels].
            img_ids: positions (t, h, w) [N, 3].
            txt: T5 embeddings [L, context_in_dim].
            txt_ids: zeros [L, 3].
            timesteps: [n] in [0, 1].
            y_vec: pooled CLIP embedding [n, vec_in_dim].
            img_cumulative: integers [n + 1], from 0 to N: where each sample's image tokens begin and end.
            txt_cumulative: integers [n + 1], from 0 to L, likewise.
            cond: packed mask and reference latents [N, cond_channels].

        Returns:
            [N, in_channels].

        Raises:
            ValueError: shapes that do not fit the configuration or each other.
        """
        lengths = PackedLengths.of_cumulative(txt_cumulative), PackedLengths.of_cumulative(img_cumulative)
        one = None if cond is None else cond[None]
        # through __call__, so that wrappers and hooks of training see it
        out: Tensor = self(img[None], img_ids[None], txt[None], txt_ids[None], timesteps, y_vec, one, packed=lengths)
        return out[0]

    def _layout(
        self,
        txt: Tensor,
        img: Tensor,
        img_len: Tensor | None,
        txt_len: Tensor | None,
        packed: tuple[PackedLengths, PackedLengths] | None,
    ) -> Layout:
        backend, (text, image) = self.attention.backend, (txt.shape[1], img.shape[1])
        whole: PackedLayout | PaddedLayout
        if packed is not None:
            whole = PackedLayout(*packed, backend.attend_packed)
        else:
            whole = PaddedLayout(text, backend.attend, key_mask(txt_len, img_len, text, image), img.device)
        return whole if self._share is None else self._share(whole, text, image)

    def _unpadded(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        cond: Tensor | None,
        img_len: Tensor | None,
        txt_len: Tensor | None,
    ) -> Tensor:
        """The padded call for kernels that take lengths but no mask: packs, computes and pads again."""
        img_valid, txt_valid = valid_tokens(img, img_len), valid_tokens(txt, txt_len)
        lengths = tuple(PackedLengths.of_cumulative(cumulative(valid)) for valid in (txt_valid, img_valid))
        # not through __call__: hooks of training have seen this call already
        packed = self.forward(
            img[img_valid][None],
            img_ids[img_valid][None],
            txt[txt_valid][None],
            txt_ids[txt_valid][None],
            timesteps,
            y_vec,
            None if cond is None else cond[img_valid][None],
            packed=(lengths[0], lengths[1]),
        )[0]
        return packed.new_zeros(*img.shape[:2], packed.shape[-1]).index_put((img_valid,), packed)
