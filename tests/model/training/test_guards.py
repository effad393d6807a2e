"""Guards: what is broken is skipped, named, replaced and left behind, and nothing waits for the device."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from zoetrope.model.training.guards import (
    DivergedError,
    Findings,
    GoBack,
    GuardConfig,
    StepGuard,
    guarded_step,
    replacement,
)

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


def guard(**changes: Any) -> StepGuard:
    return StepGuard(GuardConfig(**{"history": 8, "warm": 4, **changes}), CPU)


def feed(guard: StepGuard, norms: list[float], start: int = 0) -> list[int]:
    """The steps that are skipped."""
    return [step for step, norm in enumerate(norms, start) if guard.check(step, torch.tensor(norm)).item()]


def test_what_is_not_finite_or_far_above_the_median_is_skipped() -> None:
    assert feed(guard(), [1, 900, 1, NAN, 1, 9, 11, 90, 1, INF, -INF]) == [3, 6, 7, 9, 10]
    assert feed(guard(spike=0), [1, 1, 1, 1, 1, 1e9, NAN]) == [6]
    assert feed(guard(), [1e30] * 6) == [], "the first norms are no spikes, however large"


def test_spikes_do_not_move_the_median_and_slow_growth_is_followed() -> None:
    assert feed(guard(), [1, 1, 1, 1, *[50.0] * 20]) == list(range(4, 24))
    assert feed(guard(), [1.5**step for step in range(40)]) == []


@given(st.lists(st.floats(0.0625, 64.0, width=32), min_size=1, max_size=30), st.integers(1, 8))
def test_the_median_is_that_of_the_last_accepted_norms(norms: list[float], history: int) -> None:
    watched = guard(history=history, warm=1, spike=10)
    kept: list[float] = []
    for step, norm in enumerate(norms):
        window = sorted(kept[-history:])
        wanted = bool(window) and norm > 10 * torch.tensor(window[(len(window) - 1) // 2]).item()
        assert bool(watched.check(step, torch.tensor(norm)).item()) == wanted
        kept += [] if wanted else [norm]


def test_a_loss_that_is_not_finite_is_skipped_though_the_gradient_is() -> None:
    watched = guard()
    assert watched.check(0, torch.tensor(1.0), torch.tensor(INF)).item() == 1
    assert watched.poll().skipped[0].why == "the gradient norm 1 is finite, the loss is not"


def test_a_check_waits_for_nothing() -> None:
    """Tensors without values: whoever asks for one raises."""
    watched = StepGuard(GuardConfig(), torch.device("meta"))
    for step in range(5):
        losses = torch.ones(2, device="meta")
        skip = watched.check(step, losses.norm(), losses.mean(), ["a", "b"], losses)
        assert (skip.shape, skip.dtype) == ((), torch.float32)
    with pytest.raises(RuntimeError, match="meta"):
        watched.poll()


def test_optimizers_that_would_step_in_any_case_are_refused() -> None:
    with pytest.raises(ValueError, match="SGD has no fused step here"):
        guarded_step(torch.optim.SGD(nn.Linear(1, 1).parameters()), torch.tensor(1.0))


class Trained:
    """A small model on numbered batches, one of which is broken."""

    def __init__(self, broken: dict[int, float], **changes: Any) -> None:
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2, fused=True)
        self.guard, self.broken = guard(**changes), broken
        self.curve: list[float] = []

    def step(self, step: int) -> None:
        batch = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        batch[step % 6] *= self.broken.get(step, 1.0)
        losses = (self.model(batch.clamp(-9, 9)) - batch).square().mean(1)
        self.optimizer.zero_grad()
        losses.mean().backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        names = [f"clip-{step}-{index}" for index in range(6)]
        guarded_step(self.optimizer, self.guard.check(step, norm, losses.mean(), names, losses))
        self.curve.append(losses.mean().item())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return copy.deepcopy(self.model.state_dict()), copy.deepcopy(self.optimizer.state_dict()["state"])


@pytest.mark.parametrize("factor", [NAN, INF, 1000.0])
def test_a_broken_sample_costs_one_step_and_is_named(factor: float) -> None:
    disturbed, without = Trained({9: factor}), Trained({})
    for step in range(16):
        disturbed.step(step)
        if step != 9:
            without.step(step)
    torch.testing.assert_close(disturbed.state(), without.state(), rtol=0, atol=0)
    found = disturbed.guard.poll()
    assert [(each.step, each.suspects) for each in found.skipped] == [(9, ("clip-9-3",))]
    assert found.quarantined == () and found.go_back is None
    assert disturbed.guard.total == 1
    assert without.guard.poll() == Findings()


def test_a_clip_that_is_broken_again_is_quarantined_behind_what_is_prepared() -> None:
    watched = guard(warm=1)
    for step in range(12):
        bad = step in (3, 9)
        losses = torch.tensor([1.0, NAN if bad else 1.0])
        watched.check(step, torch.tensor(NAN if bad else 1.0), None, ["good", "bad"], losses)
        found = watched.poll(ahead=2)
        assert found.quarantined == (("bad",) if step == 9 else ())
    assert [watched.quarantined(step) for step in (11, 12)] == [frozenset(), {"bad"}]


def test_suspects_are_the_samples_of_all_ranks_and_all_where_none_stands_out() -> None:
    watched = guard(spike=2, warm=1)
    feed(watched, [1, 1])
    watched.check(2, torch.tensor(50.0), None, ["a", "b"], torch.tensor([1.0, 1.1]))
    others = [("c", 1.0), ("d", 7.0)]
    assert watched.poll(gather=lambda own: own + others).skipped[0].suspects == ("d",)
    watched.check(3, torch.tensor(50.0), None, ["a", "b"], torch.tensor([1.0, 1.1]))
    assert watched.poll().skipped[0].suspects == ("a", "b")
    watched.check(4, torch.tensor(50.0))
    assert watched.poll(samples_of=lambda step: [f"{step}-y", f"{step}-x"]).skipped[0].suspects == ("4-x", "4-y")


def test_training_goes_back_once_and_on_behind_the_samples_that_broke_it() -> None:
    watched = guard(warm=1, skips=3, window=6)
    feed(watched, [1, 1, 1, 2])
    watched.poll()
    saved = watched.state()
    feed(watched, [1, NAN, NAN], 4)
    assert watched.poll().go_back is None
    feed(watched, [1, NAN, 1], 7)
    signal = watched.poll().go_back
    assert signal == GoBack(before=5, at=10)
    with pytest.raises(ValueError, match="the state after step 6 is not from before step 6"):
        watched.went_back(signal, 6)
    watched.went_back(signal, 4, saved)
    assert [watched.position(step) for step in (3, 4, 9)] == [3, 10, 15]
    watched = again(watched)
    feed(watched, [1, NAN, NAN], 4)
    assert watched.poll().go_back is None
    feed(watched, [NAN], 7)
    with pytest.raises(
        DivergedError, match=r"3 of the last 6 steps were skipped.* gone back once before, from step 10"
    ):
        watched.poll()


def again(watched: StepGuard) -> StepGuard:
    """The guard of the next attempt."""
    restored = StepGuard(watched.config, CPU)
    restored.restore(json.loads(json.dumps(watched.state())))
    return restored


def test_skips_far_apart_are_forgotten() -> None:
    watched = guard(warm=1, skips=2, window=5)
    for step in range(40):
        watched.check(step, torch.tensor(NAN if step % 10 == 0 else 1.0))
        assert watched.poll().go_back is None


@given(
    st.lists(st.floats(0.125, 16.0, width=32), max_size=25), st.lists(st.floats(0.125, 512.0, width=32), max_size=12)
)
def test_a_restored_guard_decides_as_the_first_one_would_have(before: list[float], after: list[float]) -> None:
    first = guard()
    feed(first, before)
    first.poll()
    second = again(first)
    assert feed(second, after, 25) == feed(first, after, 25)
    if after:
        with pytest.raises(RuntimeError, match="poll the guard"):
            first.state()
    assert (first.poll(), first.state()) == (second.poll(), second.state())


@given(st.integers(1, 12), st.sets(st.integers(0, 40)), st.data())
def test_a_replacement_is_of_the_same_bucket_and_not_quarantined(size: int, broken: set[int], data: Any) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, 40), min_size=size, max_size=size)))
    row = data.draw(st.sampled_from(rows))
    if set(rows) <= broken:
        with pytest.raises(ValueError, match=r"all .* are quarantined"):
            replacement(row, broken, rows)
        return
    found = replacement(row, broken, rows)
    assert found in rows and found not in broken
    assert found == row or row in broken
    between = rows[rows.index(row) :] + rows[: rows.index(row)]
    assert set(between[: between.index(found)]) <= broken, "the next one, not any"


def test_a_row_of_another_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="row 7 is not of the bucket"):
        replacement(7, (), range(7))


@pytest.mark.parametrize("change", [{"spike": 0.5}, {"warm": 0}, {"warm": 99}, {"repeats": 0}, {"skips": 99}])
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has to be"):
        GuardConfig(**change)
