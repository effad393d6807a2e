"""Where each sample of a packed sequence begins and ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedLengths:
    """Lengths of the samples that lie one after the other in one sequence.

    Attributes:
        cumulative: int32 [n + 1], from 0 to the number of tokens, on the device of the tokens (what the
            variable-length kernels take).
        each: the n lengths as Python integers, so that no kernel has to wait for the device.
        total: tokens of all samples.
        longest: tokens of the longest sample. Fields, not properties: a compiled block takes them as numbers that
            may change, and would be compiled anew for each number of samples if it read `each`.
    """

    cumulative: Tensor
    each: tuple[int, ...]
    total: int = field(init=False)
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        """Sums up."""
        object.__setattr__(self, "total", sum(self.each))
        object.__setattr__(self, "longest", max(self.each))

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> PackedLengths:
        """From the length of each sample.

        Raises:
            ValueError: there is none, or one is not positive.
        """
        each = tuple(int(length) for length in lengths)
        if not each or min(each) < 1:
            raise ValueError(f"the lengths of packed samples have to be positive, got {list(each)}")
        sums = torch.tensor([0, *each], dtype=torch.int64).cumsum(0)
        return cls(sums.to(device=device, dtype=torch.int32), each)

    @classmethod
    def of_cumulative(cls, cumulative: Tensor) -> PackedLengths:
        """From cumulative lengths, integers [n + 1] beginning with 0 (read back to the host once).

        Raises:
            ValueError: they do not begin with 0 or do not grow.
        """
        if cumulative.ndim != 1 or cumulative.dtype.is_floating_point or len(cumulative) < 2:
            raise ValueError(
                f"cumulative lengths are integers [n + 1], got {cumulative.dtype} {list(cumulative.shape)}"
            )
        values = cumulative.tolist()
        if values[0] != 0:
            raise ValueError(f"cumulative lengths begin with 0, got {values[0]}")
        each = tuple(end - start for start, end in itertools.pairwise(values))
        if min(each) < 1:
            raise ValueError(f"cumulative lengths have to grow, got {values}")
        return cls(cumulative.to(torch.int32), each)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> PackedLengths:
        """The same with `cumulative` on a device, as `Tensor.to`."""
        return replace(self, cumulative=self.cumulative.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedLengths:
        """The same with `cumulative` in pinned memory of the host, as `Tensor.pin_memory`."""
        return replace(self, cumulative=self.cumulative.pin_memory())

    def samples(self) -> Tensor:
        """Index of the sample that each token belongs to: int64 [total], on the device of `cumulative`."""
        device = self.cumulative.device
        return torch.repeat_interleave(torch.tensor(self.each, device=device), output_size=self.total)
