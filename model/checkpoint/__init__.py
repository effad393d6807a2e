"""Weights on disk: safetensors alone, strict, streamed tensor by tensor."""

from zoetrope.model.checkpoint.configs import Config, make_config
from zoetrope.model.checkpoint.files import WeightFiles, read_weights, save_weights
from zoetrope.model.checkpoint.loading import WeightSource, load_weights

__all__ = ["Config", "WeightFiles", "WeightSource", "load_weights", "make_config", "read_weights", "save_weights"]
