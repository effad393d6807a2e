"""Sampling videos: Euler steps along the learned flow with text and image guidance."""

from zoetrope.model.sampling.config import SamplerConfig
from zoetrope.model.sampling.euler import TextCondition, VisualCondition, sample_latents

__all__ = ["SamplerConfig", "TextCondition", "VisualCondition", "sample_latents"]
