"""Latent and text shards: how they are written and how training reads them."""

from zoetrope.model.data.damage import DamagedDataError
from zoetrope.model.data.loader import LatentDataset, Sample
from zoetrope.model.data.prefetch import Prefetcher
from zoetrope.model.data.samples import LatentBatch, LatentSample, collate
from zoetrope.model.data.shards import RawTensor, Shard, ShardWriter, raw_tensor

__all__ = [
    "DamagedDataError",
    "LatentBatch",
    "LatentDataset",
    "LatentSample",
    "Prefetcher",
    "RawTensor",
    "Sample",
    "Shard",
    "ShardWriter",
    "collate",
    "raw_tensor",
]
