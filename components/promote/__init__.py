"""Registers a checkpoint and makes it champion when every check passes."""

from zoetrope.components.promote.config import PromoteConfig
from zoetrope.components.promote.step import promote

__all__ = ["PromoteConfig", "promote"]
