"""Video autoencoders."""

from zoetrope.model.autoencoders.config import DCAEConfig

__all__ = ["DCAEConfig"]
