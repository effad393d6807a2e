"""The loss by bucket, time and condition: sums on the device, read and reduced once for all when metrics are logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


def time_bins(time: Tensor, bins: int) -> Tensor:
    """The bin of each time: [B] int64 in [0, bins), from [B] in [0, 1]; stays on the device."""
    return (time.detach() * bins).long().clamp(0, bins - 1)


def time_labels(bins: int) -> list[str]:
    """Names of the bins of `time_bins`, e.g. `0.00-0.25`."""
    return [f"{index / bins:.2f}-{(index + 1) / bins:.2f}" for index in range(bins)]


class LossTable:
    """Mean losses by labels.

    Args:
        groups: name of a group -> its labels, the same on all ranks; each sample has one label of each group.
        device: where the losses lie.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], device: torch.device) -> None:
        self._groups = {name: tuple(labels) for name, labels in groups.items()}
        self._names = [f"{group}/{label}" for group, labels in self._groups.items() for label in labels]
        self._device = device
        self._sums = self._zeros()
        self._slots = {group: torch.arange(len(labels), device=device) for group, labels in self._groups.items()}

    def add(self, losses: Tensor, labels: Mapping[str, Tensor | Sequence[int] | int]) -> None:
        """Counts the samples of one step; waits for nothing.

        Args:
            losses: [B], one a sample; those that are not finite are left out.
            labels: group -> position of each sample's label, [B] int64 (best on the device) or a list, or one for all.

        Raises:
            ValueError: a group is missing.
        """
        if labels.keys() != self._groups.keys():
            raise ValueError(f"labels are of {sorted(labels)}, the table has {sorted(self._groups)}")
        values = losses.detach().to(self._device, torch.float64)
        known = torch.isfinite(values)
        pair = torch.stack([torch.where(known, values, 0.0), known.double()], dim=1)  # [B, 2]
        parts = []
        for group in self._groups:
            of_sample = self._on_device(labels[group]).expand(len(values))
            # a product with ones and zeros: sums in a fixed order, which adding by index would not have on GPUs
            chosen = (of_sample[None, :] == self._slots[group][:, None]).double()  # [labels, B]
            parts.append(chosen @ pair)
        self._sums += torch.cat(parts)

    def report(self, mean: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """`loss/GROUP/LABEL` -> mean since the last report, of labels that were met; then it begins anew.

        Args:
            mean: over the ranks, or their sum; all ranks call it, also those that report nothing.
        """
        sums, self._sums = self._sums, self._zeros()
        found = mean(sums).tolist()
        return {f"loss/{name}": total / count for name, (total, count) in zip(self._names, found, strict=True) if count}

    def _zeros(self) -> Tensor:
        return torch.zeros(len(self._names), 2, dtype=torch.float64, device=self._device)

    def _on_device(self, labels: Tensor | Sequence[int] | int) -> Tensor:
        if isinstance(labels, Tensor) and labels.device == self._device:
            return labels
        found = torch.as_tensor(labels)
        # from pinned memory the host goes on before the copy is made
        return (found.pin_memory() if self._device.type == "cuda" else found).to(self._device, non_blocking=True)
