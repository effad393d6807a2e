"""One training over many processes: weights and optimizer sharded, sequences split, activations recomputed."""

from zoetrope.model.parallel.config import CheckpointedBlocks, ParallelConfig

__all__ = ["CheckpointedBlocks", "ParallelConfig"]
