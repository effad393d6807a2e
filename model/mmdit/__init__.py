"""The multimodal diffusion transformer."""

from zoetrope.model.mmdit.config import MMDiTConfig

__all__ = ["MMDiTConfig"]
