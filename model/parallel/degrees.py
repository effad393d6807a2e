"""Numbers of processes along each axis of the mesh; plain arithmetic, so that planning needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from zoetrope.model.parallel.config import ParallelConfig

STATE_BYTES = 20
"""Bytes of a weight between steps: itself, its gradient, AdamW's two moments and its average, all float32."""
STATE_SHARE = 0.5
"""Of a device's memory that weights and optimizer may take, so that as much is left for activations."""


@dataclass(frozen=True)
class Degrees:
    """replicate x shard x context = number of processes; context varies fastest over the ranks, replicate slowest."""

    replicate: int
    shard: int
    context: int

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.replicate * self.shard * self.context

    @property
    def data(self) -> int:
        """Data-parallel ranks: groups of processes that see samples of their own."""
        return self.replicate * self.shard


def resolve_degrees(
    config: ParallelConfig,
    world: int,
    *,
    heads: int,
    per_node: int | None = None,
    parameters: int = 0,
    memory: int | None = None,
) -> Degrees:
    """The mesh that a configuration means for a number of processes.

    Args:
        config: degrees as numbers or `auto`.
        world: processes.
        heads: of the model's attention.
        per_node: processes on each node; None: all.
        parameters: of the model.
        memory: bytes of each device; None where `auto` shall not look at it.

    Raises:
        ValueError: the numbers do not multiply to the number of processes, context does not divide the heads, or the
            model does not fit, with the numbers and what to change.
    """
    if heads % config.context:
        fitting = [degree for degree in range(1, heads + 1) if heads % degree == 0]
        raise ValueError(
            f"context {config.context} does not divide the {heads} attention heads of the model; set context to one "
            f"of {', '.join(map(str, fitting))}"
        )
    if world % config.context:
        raise ValueError(
            f"{world} processes do not divide into context groups of {config.context}; change context or the number of "
            "processes"
        )
    data = world // config.context
    replicate, shard = config.replicate, config.shard
    if replicate == "auto" and shard == "auto":
        shard = _fitting_shard(config, data, per_node or world, parameters, memory)
    if replicate == "auto":
        replicate = _rest(data, "shard", shard, config.context)
    if shard == "auto":
        shard = _rest(data, "replicate", replicate, config.context)
    assert isinstance(replicate, int)
    assert isinstance(shard, int)
    degrees = Degrees(replicate, shard, config.context)
    if degrees.world != world:
        raise ValueError(
            f"replicate {replicate} x shard {shard} x context {config.context} is {degrees.world}, and there are "
            f"{world} processes; change one of them, or set replicate or shard to auto"
        )
    return degrees


def _rest(data: int, name: str, degree: int | str, context: int) -> int:
    assert isinstance(degree, int)
    if data % degree:
        raise ValueError(
            f"{name} {degree} does not divide the {data} data-parallel ranks ({data * context} processes / context "
            f"{context}); change {name} or the number of processes"
        )
    return data // degree


def _fitting_shard(config: ParallelConfig, data: int, per_node: int, parameters: int, memory: int | None) -> int:
    """The processes of a node, or the fewest more of which each holds a small enough part of the state."""
    node = max(1, per_node // config.context)
    sizes = [size for size in range(1, data) if data % size == 0 and size % node == 0] + [data]
    if memory is None:
        return sizes[0]
    for size in sizes:
        if parameters * STATE_BYTES / (size * config.context) <= STATE_SHARE * memory:
            return size
    needed = parameters * STATE_BYTES / data / config.context
    raise ValueError(
        f"weights, gradients and optimizer of {parameters / 1e9:.2f} billion parameters take {needed / 1e9:.1f} GB on "
        f"each of {data * config.context} processes, more than half of the {memory / 1e9:.1f} GB that each has; take "
        "more processes, or set replicate and shard to numbers"
    )
