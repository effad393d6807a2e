"""How a training is spread over processes, and what it keeps in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Degree = int | Literal["auto"]


@dataclass(frozen=True)
class CheckpointedBlocks:
    """Full activation checkpointing of some blocks alone; the others keep everything.

    Attributes:
        double: the first so many double blocks (8 of 19 in stages 1 and 2 of Open-Sora 2.0).
        single: the first so many single blocks (all 38 there).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    double: int = 0
    single: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range."""
        if self.double < 0 or self.single < 0 or not self.double + self.single:
            raise ValueError(
                f"checkpointing of {self.double} double and {self.single} single blocks: the numbers have to be at "
                "least 0 and not both 0; for none say `checkpointing: none`"
            )


@dataclass(frozen=True)
class ParallelConfig:
    """Degrees of the mesh (replicate x shard x context = number of processes), memory and precision.

    Attributes:
        replicate: groups that each hold all weights between them; gradients are summed over the groups.
        shard: processes that share weights, gradients and optimizer state of a group (FSDP). `auto` takes the
            processes of a node, and more where the state would not fit in half of the device's memory; with both
            `auto`, replicate takes the rest. replicate above 1 with shard above 1 is HSDP.
        context: processes that share the sequence of each sample (Ulysses); has to divide the heads. They also share
            the weights.
        reshard: `always` frees the weights of a block between forward and backward (full sharding, ZeRO-3), `never`
            keeps them, which saves a gather (ZeRO-2).
        checkpointing: which activations are kept for the backward pass: `none` keeps all, `selective` the results of
            matrix products and of attention, `full` the inputs of blocks; or full for some blocks alone.
        offload: keeps the inputs of fully checkpointed blocks in pinned memory of the host (stage 3 of
            Open-Sora 2.0).
        compile: compiles each block.
        compute: precision of matrix products and of the weights that are gathered for them; the shards, AdamW's
            state and the averaged weights are float32 always.
        reduce: precision in which gradients are summed over processes.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    replicate: Degree = "auto"
    shard: Degree = "auto"
    context: int = 1
    reshard: Literal["always", "never"] = "always"
    checkpointing: CheckpointedBlocks | Literal["none", "selective", "full"] = "none"
    offload: bool = False
    compile: bool = False
    compute: Literal["float32", "bfloat16"] = "float32"
    reduce: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range and for combinations that mean nothing."""
        for name in ("replicate", "shard", "context"):
            value = getattr(self, name)
            if value != "auto" and value < 1:
                raise ValueError(f"{name} has to be at least 1, not {value}")
        if self.offload and self.checkpointing in ("none", "selective"):
            raise ValueError(
                f"offload keeps the inputs of fully checkpointed blocks on the host, and `checkpointing: "
                f"{self.checkpointing}` has none; say `checkpointing: full`, or name the blocks"
            )
        if self.reduce == "bfloat16" and self.compute == "float32":
            raise ValueError("gradients of float32 cannot be summed in bfloat16; set reduce to float32")

    def keeps(self, kind: Literal["double", "single"], index: int) -> Literal["none", "selective", "full"]:
        """The checkpointing of one block, by its kind and its number from 0."""
        if isinstance(self.checkpointing, CheckpointedBlocks):
            return "full" if index < getattr(self.checkpointing, kind) else "none"
        return self.checkpointing
