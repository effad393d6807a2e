"""One optimizer step of a model: backward passes, sums over processes, AdamW, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from zoetrope.model.parallel.average import ShardedAverage
from zoetrope.model.parallel.step import accumulate, clip_gradients
from zoetrope.model.training.config import OptimizerConfig
from zoetrope.model.training.guards import guarded_step
from zoetrope.model.training.optimizer import adamw
from zoetrope.model.training.process_group import ProcessGroup

BUCKET = 25 << 20
"""Bytes of gradients that are summed over replicas at a time (DistributedDataParallel's default)."""


class Engine:
    """The native engine.

    A sharded model (`parallel.apply`) sums its gradients itself. Of another model every process has all weights, and
    gradients are averaged after the last backward pass, in the order of the weights: DistributedDataParallel changes
    the order of its sums after the first step, so that a resumed training would not be bitwise the same.

    Attributes:
        model: what is trained.
        average: of its weights, or None.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, workers: ProcessGroup) -> None:
        """Takes a model with its first weights, the same on all processes."""
        self.model, self.config, self.workers = model, config, workers
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = adamw(self.parameters, config)
        self.average = ShardedAverage(model, config.ema_decay) if config.ema_decay else None

    def backward(self, losses: Sequence[Callable[[], Tensor]]) -> Tensor:
        """Backward passes of the packs of a step; returns the loss of this process' part, detached."""
        self.optimizer.zero_grad()
        total = accumulate(self.model, losses)
        if not isinstance(self.model, FSDPModule):
            average_gradients(self.parameters, self.workers)
        return total

    def clip(self) -> Tensor:
        """Scales the gradients down to the configured norm; returns the norm before, a scalar on the device."""
        return clip_gradients(self.parameters, self.config.clip_norm)

    def update(self, rate: float, skip: Tensor) -> None:
        """One step of AdamW at a learning rate, unless it is to be skipped, and one of the average.

        Args:
            rate: the learning rate.
            skip: see `guards.guarded_step`.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        guarded_step(self.optimizer, skip)
        if self.average is not None:
            self.average.update(self.model)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights (the last ones where nothing is averaged), sharded as the model is, and its buffers."""
        tensors = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        return tensors if self.average is None else {**tensors, **self.average.weights}

    def begin(self) -> None:
        """Makes the optimizer's state before its first step, as zeros, which is what AdamW begins with."""
        for parameter in self.parameters:
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], workers: ProcessGroup) -> None:
    """Replaces gradients by their means over the processes; a weight without a gradient must have none anywhere."""
    if workers.world == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    pending = []
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        work.wait()
        means = torch.split(flat / workers.world, [gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [mean.view_as(own) for mean, own in zip(means, bucket, strict=True)])


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = []
    size = 0
    for gradient in gradients:
        if not buckets or size + gradient.nbytes > BUCKET or gradient.dtype != buckets[-1][0].dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.nbytes
    return buckets
