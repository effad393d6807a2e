"""Exact floating-point operations and parameters, as closed formulas of shapes.

A multiplication with its addition counts 2. Counted are matrix products and convolutions, as PyTorch's
FlopCounterMode counts them; norms, rotations and activations are not. Attention is not causal and counts in full;
modulation counts per sample, not per token, which is why 6 x parameters x tokens would overstate an MMDiT. A training
step is three forwards: the backward pass makes two products for each one (without recomputation).
"""

from __future__ import annotations

from dataclasses import dataclass

from zoetrope.model.autoencoders.flops import decoder_flops, encoder_flops
from zoetrope.model.mmdit.config import TIME_FEATURES, MMDiTConfig

__all__ = [
    "CLIP_L",
    "T5_XXL",
    "TextEncoderShape",
    "decoder_flops",
    "encoder_flops",
    "image_tokens",
    "mmdit_flops",
    "mmdit_parameters",
    "mmdit_training_flops",
    "text_encoder_flops",
]

TRAINING_FORWARDS = 3


def image_tokens(config: MMDiTConfig, latent_shape: tuple[int, int, int, int]) -> int:
    """Tokens of a latent video (C, T, H, W).

    Raises:
        ValueError: another number of channels, or the patch does not divide height and width.
    """
    channels, frames, height, width = latent_shape
    patch = config.patch_size
    if channels != config.latent_channels or height % patch or width % patch:
        raise ValueError(
            f"expected latents of {config.latent_channels} channels with height and width that divide by {patch}, "
            f"found {list(latent_shape)}"
        )
    return frames * (height // patch) * (width // patch)


def mmdit_flops(config: MMDiTConfig, image: int, text: int, *, conditioned: bool | None = None) -> int:
    """Operations of one forward of one sample.

    Args:
        config: of the MMDiT.
        image: image tokens.
        text: text tokens (512 where they are padded).
        conditioned: whether image conditions are given; None: where the model takes them.

    Returns:
        Floating-point operations.
    """
    width, wide, joint = config.hidden_size, _wide(config), image + text
    conditioned = config.cond_embed if conditioned is None else conditioned
    # a token of a double block passes the layers of its own stream alone: query, key, value, projection, two of the MLP
    double = joint * (4 * width**2 + 2 * width * wide) + 2 * 6 * width**2
    single = joint * (3 * width**2 + width * wide + (width + wide) * width) + 3 * width**2
    attention = 2 * joint**2 * width
    embedders = width * (TIME_FEATURES + config.vec_in_dim + 2 * width)
    tokens_in = width * (
        image * (config.in_channels + (config.cond_channels if conditioned else 0)) + text * config.context_in_dim
    )
    tokens_out = image * width * config.in_channels + 2 * width**2
    blocks = config.depth * (double + attention) + config.depth_single_blocks * (single + attention)
    return 2 * (blocks + embedders + tokens_in + tokens_out)


def mmdit_training_flops(config: MMDiTConfig, image: int, text: int, *, conditioned: bool | None = None) -> int:
    """Operations of forward and backward of one sample (see `mmdit_flops`)."""
    return TRAINING_FORWARDS * mmdit_flops(config, image, text, conditioned=conditioned)


def mmdit_parameters(config: MMDiTConfig) -> int:
    """Parameters of an MMDiT: 11,891,390,528 for Open-Sora 2.0."""
    width, wide, head = config.hidden_size, _wide(config), config.head_dim

    def linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
        return inputs * outputs + (outputs if bias else 0)

    stream = linear(width, 6 * width) + 3 * linear(width, width, bias=config.qkv_bias) + linear(width, width)
    double = 2 * (stream + 2 * head + linear(width, wide) + linear(wide, width))
    single = linear(width, 3 * width + wide) + linear(width + wide, width) + 2 * head + linear(width, 3 * width)
    embedders = sum(linear(size, width) + linear(width, width) for size in (TIME_FEATURES, config.vec_in_dim))
    inputs = linear(config.in_channels, width) + linear(config.context_in_dim, width)
    if config.cond_embed:
        inputs += linear(config.cond_channels, width)
    final = linear(width, config.in_channels) + linear(width, 2 * width)
    return config.depth * double + config.depth_single_blocks * single + embedders + inputs + final


def _wide(config: MMDiTConfig) -> int:
    return int(config.hidden_size * config.mlp_ratio)


@dataclass(frozen=True)
class TextEncoderShape:
    """What the operations of a text encoder depend on.

    Attributes:
        layers: transformer layers.
        width: of the embeddings.
        attention_width: heads x width of a head.
        wide: hidden width of the feed-forward layers.
        gated: whether they have a gate, a third matrix (T5 v1.1).
    """

    layers: int
    width: int
    attention_width: int
    wide: int
    gated: bool


T5_XXL = TextEncoderShape(layers=24, width=4096, attention_width=64 * 64, wide=10240, gated=True)
"""google/t5-v1_1-xxl's encoder (its published config.json)."""
CLIP_L = TextEncoderShape(layers=12, width=768, attention_width=768, wide=3072, gated=False)
"""openai/clip-vit-large-patch14's text model (its published config.json)."""


def text_encoder_flops(shape: TextEncoderShape, tokens: int) -> int:
    """Operations of one forward of one caption; CLIP's causal mask saves nothing, it counts in full as computed."""
    attention = tokens * 4 * shape.width * shape.attention_width + 2 * tokens**2 * shape.attention_width
    feed_forward = tokens * (3 if shape.gated else 2) * shape.width * shape.wide
    return 2 * shape.layers * (attention + feed_forward)
