"""Rates and waits by a clock that the tests turn, and losses by label."""

from __future__ import annotations

import json
import math

import pytest
import torch

from zoetrope.model.training.loss_table import LossTable, time_bins, time_labels
from zoetrope.model.training.throughput import Throughput, peak_flops

CPU = torch.device("cpu")


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_rates_shares_and_time_left() -> None:
    clock = Clock(50)
    speed = Throughput(steps=100, devices=4, peak=1e3, clock=clock)
    for _ in range(10):
        with speed.waiting("data"):
            clock.now += 0.5
        clock.now += 1.5
        speed.step(samples=8)
        speed.work(tokens=100, flops=4e3)
    with speed.waiting("checkpoint"):
        clock.now += 5
    assert speed.report(10) == pytest.approx(
        {
            "samples_per_second": 80 / 25,
            "tokens_per_second": 1000 / 25,
            "model_flops_per_second": 4e4 / 25,
            "mfu": 4e4 / 25 / 4e3,
            "wait/checkpoint": 5 / 25,
            "wait/data": 5 / 25,
            "goodput": 15 / 25,
            "seconds_left": 90 * 2.5,
        }
    )
    clock.now += 5
    speed.step(samples=8)
    found = speed.report(11)
    assert found == pytest.approx({"samples_per_second": 8 / 5, "goodput": 20 / 30, "seconds_left": 89 * 5})
    clock.now += 10
    assert speed.report(11) == pytest.approx({"samples_per_second": 0, "goodput": 20 / 40})


def test_what_was_lost_between_two_attempts_is_no_goodput() -> None:
    clock, day = Clock(), Clock(1e9)
    first = Throughput(10, clock=clock, now=day)
    clock.now += 60
    first.step(1)
    first.report(1)
    state = json.loads(json.dumps(first.state()))
    day.now += 30  # steps that were lost, and the restart
    second = Throughput(10, clock=Clock(7), now=day)
    second.restore(state)
    assert second.report(1)["goodput"] == pytest.approx(60 / 90)
    day.now -= 1e6
    second.restore(state)
    assert second.wall == 60, "a clock that was set back takes nothing away"


def test_peaks_are_those_of_the_data_sheets() -> None:
    assert peak_flops("NVIDIA H200", "bfloat16") == 989.4e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe", "bfloat16") == 756.5e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32") == 19.5e12
    assert peak_flops("AMD EPYC", "bfloat16") is None
    assert "mfu" not in Throughput(1).report(0)


def table() -> LossTable:
    return LossTable({"bucket": ["a", "b", "c"], "time": time_labels(4)}, CPU)


def test_losses_by_label_are_means_of_their_samples() -> None:
    losses = table()
    losses.add(torch.tensor([1.0, 3.0, 5.0]), {"bucket": [0, 1, 1], "time": time_bins(torch.tensor([0, 0.3, 1]), 4)})
    losses.add(torch.tensor([7.0, math.nan]), {"bucket": 1, "time": torch.tensor([3, 3])})
    assert losses.report() == {
        "loss/bucket/a": 1.0,
        "loss/bucket/b": 5.0,
        "loss/time/0.00-0.25": 1.0,
        "loss/time/0.25-0.50": 3.0,
        "loss/time/0.75-1.00": 6.0,
    }
    assert losses.report() == {}


def test_ranks_add_up_to_what_one_process_would_say() -> None:
    generator = torch.Generator().manual_seed(0)
    values, where = torch.rand(40, generator=generator), torch.randint(0, 3, (40,), generator=generator)
    one, ranks = table(), [table() for _ in range(4)]
    one.add(values, {"bucket": where, "time": 0})
    for rank, own in enumerate(ranks):
        own.add(values[rank::4], {"bucket": where[rank::4], "time": 0})
    mean = torch.stack([own._sums for own in ranks]).mean(0)
    assert ranks[0].report(lambda sums: mean) == pytest.approx(one.report())


def test_adding_waits_for_nothing() -> None:
    meta = torch.device("meta")
    losses = LossTable({"bucket": ["a", "b"]}, meta)
    losses.add(torch.ones(2, device=meta), {"bucket": torch.zeros(2, dtype=torch.int64, device=meta)})
    with pytest.raises(ValueError, match=r"labels are of \[\], the table has \['bucket'\]"):
        losses.add(torch.ones(2), {})
