"""Text encoders: T5 for the token sequence, CLIP for the pooled vector."""

from zoetrope.model.text.encoders import TextEncoders, load_text_encoders, pad_text
from zoetrope.model.text.tiny import TinyTextConfig, build_tiny_text_encoders

__all__ = ["TextEncoders", "TinyTextConfig", "build_tiny_text_encoders", "load_text_encoders", "pad_text"]
