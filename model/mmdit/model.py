"""The multimodal diffusion transformer of Open-Sora 2.0 (architecture of FLUX, with time as third rotary axis)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoetrope.model.attention import AUTO, AttentionChoice, PackedLengths, choose_attention
from zoetrope.model.mmdit.config import TIME_FEATURES, MMDiTConfig
from zoetrope.model.mmdit.inputs import check_inputs, cumulative, valid_tokens
from zoetrope.model.mmdit.layers import (
    DoubleStreamBlock,
    LastLayer,
    MLPEmbedder,
    Modulation,
    SingleStreamBlock,
    rotary_table,
    timestep_embedding,
)
from zoetrope.model.mmdit.layout import Layout, PackedLayout, PaddedLayout, key_mask


class MMDiT(nn.Module):
    """Predicts the velocity of noisy latent tokens, given text, time and, optionally, reference frames.

    State-dict keys and shapes are those of `Open_Sora_v2.safetensors`.
    """

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        self._attention: AttentionChoice | None = None
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
        (adaLN-zero) and an image condition begins as no change of the text-to-video model.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for embedder in (self.time_in, self.vector_in):
            nn.init.normal_(embedder.in_layer.weight, std=0.02, generator=generator)
            nn.init.normal_(embedder.out_layer.weight, std=0.02, generator=generator)
        zeros: list[nn.Module] = [module for module in self.modules() if isinstance(module, Modulation)]
        zeros += [self.final_layer, self.cond_in] if self.config.cond_embed else [self.final_layer]
        for module in zeros:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
        return self

    def choose_attention(self, name: str = AUTO, dtype: torch.dtype | None = None) -> AttentionChoice:
        """Chooses the attention kernel (see `attention.choose_attention`); without a call, `auto` at first use.

        Args:
            name: of a backend, or `auto`.
            dtype: that attention runs in, where autocast makes it another than the weights'.
        """
        weight = self.img_in.weight
        self._attention = choose_attention(name, weight.device, dtype or weight.dtype)
        return self._attention

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
        layout = self._layout(txt.shape[1], img.shape[1], img_len, txt_len, packed)
        dtype = self.img_in.weight.dtype
        x = self.img_in(img)
        if cond is not None:
            x = x + self.cond_in(cond)
        vector = self.time_in(timestep_embedding(timesteps, TIME_FEATURES).to(dtype)) + self.vector_in(y_vec)
        text = self.txt_in(txt)
        rotary = rotary_table(layout.join(txt_ids, img_ids), self.config.axes_dim, self.config.theta)
        for block in self.double_blocks:
            x, text = block(x, text, vector, rotary, layout)
        joint = layout.join(text, x)
        for block in self.single_blocks:
            joint = block(joint, vector, rotary, layout)
        out: Tensor = self.final_layer(layout.split(joint)[1], vector, layout)
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
        text_tokens: int,
        image_tokens: int,
        img_len: Tensor | None,
        txt_len: Tensor | None,
        packed: tuple[PackedLengths, PackedLengths] | None,
    ) -> Layout:
        backend = self.attention.backend
        if packed is not None:
            return PackedLayout(*packed, backend.attend_packed)
        return PaddedLayout(text_tokens, backend.attend, key_mask(txt_len, img_len, text_tokens, image_tokens))

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
        packed = self.forward_packed(
            img[img_valid],
            img_ids[img_valid],
            txt[txt_valid],
            txt_ids[txt_valid],
            timesteps,
            y_vec,
            cumulative(img_valid),
            cumulative(txt_valid),
            None if cond is None else cond[img_valid],
        )
        return packed.new_zeros(*img.shape[:2], packed.shape[-1]).index_put((img_valid,), packed)
