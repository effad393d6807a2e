"""How fast training goes and where its time stays: rates, share of the device's peak, waits, goodput, time left.

All numbers are the host's: shapes of batches and clocks. Nothing here reads from a device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PEAK_FLOPS = {
    # dense matrix products per second; NVIDIA's data sheets print twice as much for the tensor cores, with sparsity
    "NVIDIA H200": {"bfloat16": 989.4e12, "float32": 66.9e12},
    "NVIDIA H100 NVL": {"bfloat16": 835.5e12, "float32": 60.0e12},
    "NVIDIA H100 PCIe": {"bfloat16": 756.5e12, "float32": 51.2e12},
    "NVIDIA H100": {"bfloat16": 989.4e12, "float32": 66.9e12},
    "NVIDIA A100": {"bfloat16": 312e12, "float32": 19.5e12},
}
"""Start of the device's name (as `torch.cuda.get_device_name` says it) -> precision -> FLOP/s.

The longest name that fits counts. float32 is without TF32, as PyTorch multiplies by default. From NVIDIA's data sheets
of H200 (2024), H100 (2023) and A100 (2021).
"""


def peak_flops(device_name: str, precision: str) -> float | None:
    """The device's peak in FLOP/s; None where the table does not have it, e.g. for CPUs: then there is no MFU.

    Args:
        device_name: of `torch.cuda.get_device_name`.
        precision: of the matrix products, `bfloat16` or `float32`.
    """
    names = [name for name in PEAK_FLOPS if device_name.startswith(name)]
    return PEAK_FLOPS[max(names, key=len)].get(precision) if names else None


@dataclass
class _Interval:
    """Sums since the last report."""

    started: float
    steps: int = 0
    samples: int = 0
    tokens: float = 0.0
    flops: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)


@dataclass
class Throughput:
    """Counts the steps of a run and times its waits; rank 0's is reported, and all ranks' samples are counted in it.

    Attributes:
        steps: of the whole run.
        devices: that share the work.
        peak: FLOP/s of one of them (`peak_flops`), or None.
        clock: seconds that never go back.
        now: seconds since 1970, to bridge the time between two attempts.
    """

    steps: int
    devices: int = 1
    peak: float | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _productive: float = 0.0
    _wall_before: float = 0.0
    _began: float = field(init=False)
    _interval: _Interval = field(init=False)

    def __post_init__(self) -> None:
        """The run begins."""
        self._began = self.clock()
        self._interval = _Interval(self._began)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Times a wait, e.g. `data`, `checkpoint`, `validation`: it is part of no step.

        Args:
            what: name of the metric `wait/WHAT`.
        """
        begun = self.clock()
        try:
            yield
        finally:
            waits = self._interval.waits
            waits[what] = waits.get(what, 0.0) + self.clock() - begun

    def step(self, samples: int) -> None:
        """A step has ended.

        Args:
            samples: of the step, over all ranks.
        """
        self._interval.steps += 1
        self._interval.samples += samples

    def work(self, tokens: float, flops: float) -> None:
        """What the steps since the last report did, over all ranks.

        Args:
            tokens: useful ones, without padding.
            flops: of the model for them: what is recomputed or padded does not count (`model.flops`).
        """
        self._interval.tokens += tokens
        self._interval.flops += flops

    def report(self, finished: int) -> dict[str, float]:
        """The metrics since the last report, which then begin anew.

        Args:
            finished: steps of the run that are done.

        Returns:
            `samples_per_second`; `tokens_per_second`, `model_flops_per_second` and `mfu` (per device, 0 to 1) where
            they are known; `wait/NAME` as shares of the time; `goodput`, the share of the run's whole time, earlier
            attempts and the breaks between them included, that went into steps which count; `seconds_left`.
        """
        interval, now = self._interval, self.clock()
        seconds = max(now - interval.started, 1e-9)
        working = seconds - sum(interval.waits.values())
        self._productive += working if interval.steps else 0.0
        found = {"samples_per_second": interval.samples / seconds}
        if interval.tokens:
            found["tokens_per_second"] = interval.tokens / seconds
        if interval.flops:
            found["model_flops_per_second"] = interval.flops / seconds
            if self.peak:
                found["mfu"] = interval.flops / seconds / (self.peak * self.devices)
        for name, waited in sorted(interval.waits.items()):
            found[f"wait/{name}"] = waited / seconds
        found["goodput"] = min(1.0, self._productive / max(self.wall, 1e-9))
        if interval.steps:
            found["seconds_left"] = (self.steps - finished) * seconds / interval.steps
        self._interval = _Interval(now)
        return found

    @property
    def wall(self) -> float:
        """Seconds since the first attempt began."""
        return self._wall_before + self.clock() - self._began

    def state(self) -> dict[str, float]:
        """As JSON, for the checkpoint; what the steps since the last report did is not in it."""
        return {"productive": self._productive, "wall": self.wall, "saved_at": self.now()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on counting; the time since the state was saved is lost time, whatever happened in it."""
        self._productive = float(state["productive"])
        since = max(0.0, self.now() - float(state["saved_at"]))  # another machine's clock may be behind
        self._wall_before = float(state["wall"]) + since
        self._began = self.clock()
        self._interval = _Interval(self._began)
