"""The multimodal diffusion transformer of Open-Sora 2.0 (architecture of FLUX, with time as third rotary axis)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.layers import (
    DoubleStreamBlock,
    LastLayer,
    MLPEmbedder,
    Modulation,
    SingleStreamBlock,
    rotary_table,
    timestep_embedding,
)

TIME_FEATURES = 256  # width of the sinusoidal time embedding, as in FLUX


class MMDiT(nn.Module):
    """Predicts the velocity of noisy latent tokens, given text, time and, optionally, reference frames.

    State-dict keys and shapes are those of `Open_Sora_v2.safetensors`.
    """

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
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

    def forward(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        *,
        cond: Tensor | None = None,
        txt_len: Tensor | None = None,
    ) -> Tensor:
        """Predicts the velocity.

        Args:
            img: noisy latent tokens [B, N, in_channels].
            img_ids: positions (t, h, w) [B, N, 3].
            txt: T5 embeddings, padded [B, L, context_in_dim].
            txt_ids: zeros [B, L, 3].
            timesteps: [B] in [0, 1].
            y_vec: pooled CLIP embedding [B, vec_in_dim].
            cond: packed mask and reference latents [B, N, cond_channels]; None for text alone.
            txt_len: valid text tokens [B]; the others take no part. None: all do (as in the paper).

        Returns:
            [B, N, in_channels].
        """
        if cond is not None and not self.config.cond_embed:
            raise ValueError("this model was built without image conditions (cond_embed is false)")
        dtype = self.img_in.weight.dtype
        x = self.img_in(img)
        if cond is not None:
            x = x + self.cond_in(cond)
        vector = self.time_in(timestep_embedding(timesteps, TIME_FEATURES).to(dtype)) + self.vector_in(y_vec)
        text = self.txt_in(txt)
        ids = torch.cat([txt_ids, img_ids], dim=1)
        rotary = rotary_table(ids, self.config.axes_dim, self.config.theta)
        length = txt.shape[1]
        mask = None if txt_len is None else _key_mask(txt_len, length, img.shape[1])
        for block in self.double_blocks:
            x, text = block(x, text, vector, rotary, mask)
        joint = torch.cat([text, x], dim=1)
        for block in self.single_blocks:
            joint = block(joint, vector, rotary, mask)
        out: Tensor = self.final_layer(joint[:, length:], vector)
        return out


def _key_mask(txt_len: Tensor, length: int, image_tokens: int) -> Tensor:
    """True where a key takes part: [B, 1, 1, L + N]."""
    positions = torch.arange(length + image_tokens, device=txt_len.device)
    return ((positions[None] < txt_len[:, None]) | (positions[None] >= length))[:, None, None]
