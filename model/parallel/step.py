"""One training step of a sharded model: accumulated gradients, their norm, their clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def share_of_step(sample_losses: Tensor, samples: int, data_world: int) -> Tensor:
    """What a pack adds to the loss of its data-parallel rank, so that the mean over ranks is that over samples.

    Args:
        sample_losses: of the samples of the pack [n].
        samples: of the step, over all ranks and packs.
        data_world: data-parallel ranks.

    Returns:
        Scalar; the gradients of a step are those of the mean loss of its samples, however they are spread.
    """
    return sample_losses.sum() * (data_world / samples)


def accumulate(model: nn.Module, losses: Sequence[Callable[[], Tensor]], *, reduce_each: bool = True) -> Tensor:
    """Backward passes of the packs of a step, one after the other.

    Args:
        model: of `apply_parallel`.
        losses: each computes the loss of one pack through the model; all ranks have the same number of them.
        reduce_each: whether gradients are summed over the sharding processes after each pack, so that only shards of
            them are kept. Without, they are summed once, which needs memory for all gradients in float32. Sums over
            replicas are made once in both cases.

    Returns:
        The sum of the losses, detached.

    Raises:
        ValueError: there is no pack.
    """
    if not losses:
        raise ValueError("a step needs at least one pack on each rank")
    total: Tensor | None = None
    for index, loss in enumerate(losses):
        last = index == len(losses) - 1
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(reduce_each or last)
            model.set_requires_all_reduce(last)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        total = value.detach() if total is None else total + value.detach()
    assert total is not None
    return total


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], maximum: float) -> Tensor:
    """Scales gradients down to a norm.

    Args:
        parameters: of the model, sharded or not; those without gradient are left out.
        maximum: the norm.

    Returns:
        The norm of the gradient of all shards before clipping, a scalar on the device: nothing waits for it.
    """
    given = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in given if parameter.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    gradients = [_local(parameter.grad) for parameter in given if parameter.grad is not None]
    scale = (maximum / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ does
    torch._foreach_mul_(gradients, scale)
    return norm


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
