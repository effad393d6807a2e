"""The ledger keeps, verifies and merges chains."""

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain, collect, next_attempt
from zoetrope.infra.resources import Resources
from zoetrope.infra.store import open_store


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


def chain_of(store, clock, run="run-1", step="curate", attempt=1):
    chain = LedgerChain(store, run, step, attempt, clock=clock)
    chain.allocate(Resources(cpu=2, memory_gb=4), price_sheet="local-2026-11")
    return chain


def test_a_finished_step_is_billed_from_allocation_to_outcome(store):
    clock = Clock()
    chain = chain_of(store, clock)
    clock.now += 30
    chain.usage(12.5, 2_000_000)
    clock.now += 12
    returned = chain.outcome("succeeded")
    [entry] = collect(store, "run-1")
    assert entry == returned
    assert (entry.step, entry.attempt, entry.seconds, entry.outcome) == ("curate", 1, 42.0, "succeeded")
    assert entry.resources == Resources(cpu=2, memory_gb=4)
    assert (entry.cpu_seconds, entry.peak_memory_bytes, entry.price_sheet) == (
        12.5,
        2_000_000,
        "local-2026-11",
    )


def test_a_killed_process_is_billed_until_its_last_heartbeat(store):
    clock = Clock()
    chain = chain_of(store, clock)
    for _ in range(5):
        clock.now += 10
        chain.usage(clock.now - 1000, 1)
    clock.now += 500  # killed: nobody writes an outcome
    [entry] = collect(store, "run-1")
    assert (entry.outcome, entry.seconds, entry.cpu_seconds) == ("open", 50.0, 50.0)


def test_a_long_step_has_a_short_chain_and_loses_under_one_percent(store, tmp_path):
    clock = Clock()
    chain = chain_of(store, clock)
    beats = 3000
    for _ in range(beats):
        clock.now += 60
        chain.usage(1, 1)
    lines = (tmp_path / "store/ledger/run-1/curate.1.jsonl").read_text().splitlines()
    assert len(lines) < beats / 3
    [entry] = collect(store, "run-1")
    assert 0.99 * 60 * beats <= entry.seconds <= 60 * beats


def test_a_clock_set_back_never_shortens_an_allocation(store):
    clock = Clock()
    chain = chain_of(store, clock)
    clock.now += 20
    chain.usage(1, 1)
    clock.now -= 600
    assert chain.outcome("failed", "no usable clip").seconds == 20
    assert collect(store)[0].reason == "no usable clip"


def test_attempts_and_runs_are_merged_by_start(store):
    clock = Clock()
    for attempt in (1, 2):
        assert next_attempt(store, "run-1", "curate") == attempt
        chain = chain_of(store, clock, attempt=attempt)
        clock.now += 1
        chain.outcome("failed" if attempt == 1 else "succeeded")
    chain_of(store, clock, run="run-10", step="encode").outcome("cancelled")
    assert [(e.run_id, e.attempt, e.outcome) for e in collect(store)] == [
        ("run-1", 1, "failed"), ("run-1", 2, "succeeded"), ("run-10", 1, "cancelled"),
    ]  # fmt: skip
    assert len(collect(store, "run-1")) == 2
    assert collect(store, "run-") == []
    assert next_attempt(store, "run-1", "encode") == 1


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (lambda lines: [lines[0].replace('"cpu":2.0', '"cpu":1.0'), *lines[1:]], 1, "was changed"),
        (lambda lines: [lines[0], *lines[2:]], 2, "does not continue"),
        (lambda lines: [lines[0], lines[1], lines[1]], 3, "does not continue"),
        (lambda lines: [*lines[:2], lines[2][:20]], 3, "not a ledger event"),
        (lambda lines: lines[1:], 1, "does not continue"),
        (lambda lines: [], 1, "does not begin"),
    ],
)
def test_a_broken_chain_is_named_with_its_line(store, tmp_path, change, line, reason):
    clock = Clock()
    chain = chain_of(store, clock)
    clock.now += 5
    chain.usage(1.0, 1)
    chain.outcome("succeeded")
    path = tmp_path / "store/ledger/run-1/curate.1.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    path.write_text("".join(text + "\n" for text in change(lines)))
    with pytest.raises(ZoetropeError, match=rf"curate\.1\.jsonl, line {line}: {reason}"):
        collect(store, "run-1")


def test_a_second_writer_of_one_attempt_is_refused(store):
    chain_of(store, Clock())
    with pytest.raises(ZoetropeError, match="already recorded"):
        LedgerChain(store, "run-1", "curate", 1)


def test_an_outcome_needs_an_open_allocation(store):
    chain = LedgerChain(store, "run-1", "curate", 1)
    with pytest.raises(ZoetropeError, match="no open allocation"):
        chain.outcome("failed")
    chain.allocate(Resources())
    chain.outcome("failed")
    with pytest.raises(ZoetropeError, match="no open allocation"):
        chain.outcome("succeeded")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "two words", "line\nbreak"])
def test_names_that_are_no_file_names_are_refused(store, name):
    with pytest.raises(ZoetropeError, match="cannot name"):
        LedgerChain(store, name, "curate", 1)
    with pytest.raises(ZoetropeError, match="cannot name"):
        LedgerChain(store, "run", name, 1)


def test_heartbeats_of_several_threads_keep_one_chain(store):
    chain = chain_of(store, Clock())
    threads = [threading.Thread(target=chain.usage, args=(1.0, 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain.outcome("succeeded")
    assert collect(store)[0].outcome == "succeeded"


@settings(max_examples=25)
@given(flip=st.integers(min_value=0), value=st.integers(1, 255))
def test_no_single_changed_byte_goes_unnoticed(tmp_path_factory, flip, value):
    directory = tmp_path_factory.mktemp("store")
    store, clock = open_store(directory), Clock()
    chain = chain_of(store, clock)
    clock.now += 3
    chain.outcome("succeeded", "grün")
    [entry] = collect(store)
    path = directory / "ledger/run-1/curate.1.jsonl"
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= value
    path.write_bytes(bytes(data))
    try:
        assert collect(store) == [entry]  # white space or letter case that JSON ignores changes no fact
    except ZoetropeError as error:
        assert "ledger: " in error.headline


def test_lines_are_plain_json(store, tmp_path):
    chain_of(store, Clock()).outcome("succeeded")
    lines = (tmp_path / "store/ledger/run-1/curate.1.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["kind"], first["index"], first["previous"]) == ("allocation", 0, "0" * 64)
    assert second["previous"] == first["hash"]
