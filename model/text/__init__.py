"""Text encoders: T5 for the token sequence, CLIP for the pooled vector."""

from zoetrope.model.text.encoders import T5_MAX_TOKENS, TextEncoders, TextMode, load_text_encoders, pad_text
from zoetrope.model.text.tiny import TinyTextConfig, build_tiny_text_encoders

__all__ = [
    "T5_MAX_TOKENS",
    "TextEncoders",
    "TextMode",
    "TinyTextConfig",
    "build_tiny_text_encoders",
    "load_text_encoders",
    "pad_text",
]
