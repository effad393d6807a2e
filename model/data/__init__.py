"""Latent and text shards: how they are written and how training reads them."""

from zoetrope.model.data.loader import DamagedDataError, LatentBatch, LatentDataset
from zoetrope.model.data.shards import RawTensor, Shard, ShardWriter, raw_tensor

__all__ = ["DamagedDataError", "LatentBatch", "LatentDataset", "RawTensor", "Shard", "ShardWriter", "raw_tensor"]
