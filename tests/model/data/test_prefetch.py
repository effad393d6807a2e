"""What is prepared ahead: in order, bounded, from any step, errors where they belong."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoetrope.model.data import Prefetcher


@settings(max_examples=30, deadline=None)
@given(asked=st.lists(st.integers(0, 12), min_size=1, max_size=20), ahead=st.integers(1, 5), workers=st.integers(1, 3))
def test_any_order_of_steps_gives_what_prepare_gives(asked: list[int], ahead: int, workers: int) -> None:
    with Prefetcher(lambda step: step * step, ahead, workers) as squares:
        assert [squares.get(step) for step in asked] == [step * step for step in asked]
        assert squares.data_wait >= 0


@pytest.mark.parametrize("workers", [1, 3])
def test_steps_are_prepared_once_in_order_and_no_more_than_asked_ahead(workers: int) -> None:
    started: list[int] = []
    arrived, lock = threading.Semaphore(0), threading.Lock()

    def prepare(step: int) -> int:
        with lock:
            started.append(step)
        arrived.release()
        return step

    with Prefetcher(prepare, ahead=2, workers=workers) as batches:
        for step in range(5, 15):
            assert batches.get(step) == step
            # exactly the steps up to two beyond this one are started, and come without being asked for
            for _ in range(3 if step == 5 else 1):
                assert arrived.acquire(timeout=30)
            assert len(started) == step - 5 + 3
    assert sorted(started) == list(range(5, 17))
    if workers == 1:
        assert started == sorted(started)


def test_an_error_comes_at_its_step_and_the_step_can_be_tried_again() -> None:
    broken, prepared = {3}, []

    def prepare(step: int) -> str:
        prepared.append(step)
        if step in broken:
            raise ValueError(f"clip of step {step} is damaged")
        return f"{step} without {sorted(broken)}"

    with Prefetcher(prepare, ahead=3) as batches:
        for step in range(3):
            assert batches.get(step).startswith(str(step))
        for _ in range(2):
            with pytest.raises(ValueError, match="clip of step 3 is damaged"):
                batches.get(3)
        broken.clear()
        # nothing that was prepared before the cure is handed out
        assert [batches.get(step) for step in (3, 4, 5)] == ["3 without []", "4 without []", "5 without []"]
        broken.add(100)
        batches.restart()
        assert batches.get(6) == "6 without [100]"


def test_the_end_is_neither_prepared_nor_handed_out() -> None:
    prepared: list[int] = []
    with Prefetcher(prepared.append, ahead=4, stop=3) as batches:
        for step in range(3):
            batches.get(step)
        with pytest.raises(IndexError, match="no step 3"):
            batches.get(3)
    assert prepared == [0, 1, 2]


def test_closing_ends_the_threads_while_a_step_is_prepared() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def prepare(step: int) -> int:
        if step == 1:
            begun.set()
            assert go_on.wait(30)
        return step

    before = threading.active_count()
    batches = Prefetcher(prepare, ahead=3)
    assert batches.get(0) == 0
    assert begun.wait(30)
    threading.Timer(0, go_on.set).start()
    batches.close()
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    assert threading.active_count() <= before + 1
    with pytest.raises(RuntimeError, match="closed"):
        batches.get(1)
    with pytest.raises(ValueError, match="at least 1"):
        Prefetcher(prepare, ahead=0)


def test_waiting_is_counted() -> None:
    ready = threading.Event()

    def prepare(step: int) -> int:
        assert ready.wait(30)
        return step

    with Prefetcher(prepare) as batches:
        threading.Timer(0.05, ready.set).start()
        batches.get(0)
        waited = batches.data_wait
        assert waited > 0.01
        batches.get(1)
        assert batches.data_wait >= waited
