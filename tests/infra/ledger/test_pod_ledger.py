"""Chains of pods: what several observers make of the same pods, at any time and in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain, PodFacts, PodLedger, collect, next_attempt
from zoetrope.infra.ledger.pod_ledger import GONE, events_of, read_pods
from zoetrope.infra.resources import Resources

RUN = "run-1"
START = 1000.0
POD = PodFacts(
    uid="7c1f", pod="z1-node-0-0-abcde", namespace="default", step="stage_1", attempt=2, role="job", job="z1",
    resources=Resources(cpu=4, memory_gb=16, gpus=8, gpu_kind="h200"), gpu_resource="nvidia.com/gpu", node="n1",
    node_type="p5en.48xlarge", created=START - 90, scheduled=START,
)  # fmt: skip
SHARED = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ended(pod, after, outcome="succeeded", reason=""):
    return replace(pod, ended=pod.scheduled + after, outcome=outcome, reason=reason)


def test_a_pod_is_billed_from_its_node_to_its_end_by_its_own_clock(memory):
    store = memory()
    assert PodLedger(store, RUN).record(ended(POD, 300.0, "failed", "node: OOMKilled (exit 137)"), seen_at=9e9)
    [entry] = collect(store, RUN)
    assert (entry.started, entry.seconds, entry.queued_seconds) == (START, 300.0, 90.0)
    assert (entry.outcome, entry.reason) == ("failed", "node: OOMKilled (exit 137)")
    assert (entry.step, entry.attempt, entry.job, entry.pod) == ("stage_1", 2, "z1", "z1-node-0-0-abcde")
    assert (entry.source, entry.role, entry.node_type) == ("pod", "job", "p5en.48xlarge")
    assert entry.resources == POD.resources
    assert next_attempt(store, RUN, "stage_1") == 1


def test_a_running_pod_counts_until_it_was_last_seen_and_is_continued_later(memory):
    store = memory()
    PodLedger(store, RUN).record(POD, START + 200)
    [entry] = collect(store, RUN)
    assert (entry.outcome, entry.seconds) == ("open", 180.0)
    PodLedger(store, RUN).record(POD, START + 500)
    assert collect(store, RUN)[0].seconds == 480.0
    PodLedger(store, RUN).record(ended(POD, 555.5), START + 600)
    [entry] = collect(store, RUN)
    assert (entry.outcome, entry.seconds) == ("succeeded", 555.5)


def test_looking_again_changes_nothing(memory):
    store = memory()
    PodLedger(store, RUN).record(ended(POD, 300.0), START + 400)
    before = dict(store.objects)
    assert not PodLedger(store, RUN).record(ended(POD, 300.0), START + 9000)
    assert not PodLedger(store, RUN).record(POD, START + 200)
    PodLedger(store, RUN).tidy()
    assert store.objects == before


def test_what_a_longer_chain_replaces_is_deleted_by_the_next_observer(memory):
    store = memory()
    for seconds in (100, 300, 700):
        PodLedger(store, RUN).record(POD, START + seconds)
    PodLedger(store, RUN).tidy()
    assert len(store.objects) == 1
    assert collect(store, RUN)[0].seconds == 660.0


def test_a_pod_that_is_gone_ends_at_its_last_beat(memory):
    store = memory()
    PodLedger(store, RUN).record(POD, START + 200)
    ledger = PodLedger(store, RUN)
    [(uid, events)] = ledger.open_chains().items()
    ledger.close(uid, events)
    [entry] = collect(store, RUN)
    assert (entry.outcome, entry.seconds, entry.reason) == ("cancelled", 180.0, GONE)
    assert PodLedger(store, RUN).open_chains() == {}
    # Somebody had seen it alive later, or its end, and comes to write only now.
    PodLedger(store, RUN).record(POD, START + 400)
    assert collect(store, RUN)[0].seconds == 360.0
    PodLedger(store, RUN).record(ended(POD, 390.0, "failed"), START + 400)
    assert collect(store, RUN)[0].outcome == "failed"


def test_a_long_pod_has_a_short_chain_and_loses_under_two_percent():
    day = 86400.0
    events = events_of(POD, START + day)
    assert len(events) < 500
    assert events[-1].time - START >= 0.98 * day


def test_a_pod_that_vanishes_after_it_was_asked_to_end_counts_until_then(memory):
    store = memory()
    PodLedger(store, RUN).record(POD, START + 50000)
    PodLedger(store, RUN).record(replace(POD, asked_to_end=START + 50100.5), START + 50101)
    [(uid, events)] = PodLedger(store, RUN).open_chains().items()
    ledger = PodLedger(store, RUN)
    ledger.close(uid, events)
    assert collect(store, RUN)[0].seconds == 50100.5


@given(seen=st.floats(0, 2e5), asked=st.floats(0, 2e5), later=st.floats(0, 2e5), grace=st.floats(0, 300))
def test_being_asked_to_end_continues_the_chain(seen, asked, later, grace):
    before = events_of(POD, START + min(seen, asked))
    told = replace(POD, asked_to_end=START + asked)
    first = events_of(told, START + asked)
    second = events_of(told, START + max(asked, later))
    assert first[: len(before)] == before
    assert second[: len(first)] == first
    last = events_of(replace(told, ended=START + max(asked, later) + grace), 0.0)
    assert last[: len(second)] == second


@given(seen=st.lists(st.floats(0, 2e5), min_size=2, max_size=2), end=st.floats(0, 2e5))
def test_a_later_chain_continues_an_earlier_one(seen, end):
    first, second = (events_of(POD, START + seconds) for seconds in sorted(seen))
    assert second[: len(first)] == first
    last = events_of(ended(POD, end), 0.0)
    before_end = events_of(POD, START + min([*seen, end]))
    assert last[: len(before_end)] == before_end
    assert last[-1].time == START + end


def test_what_a_step_wrote_in_a_collected_pod_is_not_billed_again(memory):
    store, now = memory(), [START]
    for attempt, pod in ((1, "wf-system-1"), (2, "wf-system-2"), (3, "")):
        chain = LedgerChain(store, RUN, "curate", attempt, clock=lambda: now[0])
        chain.allocate(Resources(cpu=1), price_sheet="local-2026-11", pod=pod)
        now[0] += 10
        chain.usage(7.5, 4096)
        chain.outcome("failed" if attempt == 1 else "succeeded", "no usable clip" if attempt == 1 else "")
    step_pod = replace(POD, pod="wf-system-1", step="curate_2", attempt=1, role="step", job="")
    PodLedger(store, RUN).record(ended(step_pod, 30.0, "failed", "main: Error (exit 2)"), 9e9)
    found = [(entry.step, entry.attempt, entry.source, entry.pod, entry.seconds) for entry in collect(store, RUN)]
    assert found == [
        ("curate", 1, "pod", "wf-system-1", 30.0),
        ("curate", 2, "step", "wf-system-2", 10.0),
        ("curate", 3, "step", "", 10.0),
    ]
    first = collect(store)[0]
    assert (first.reason, first.cpu_seconds, first.peak_memory_bytes) == ("no usable clip", 7.5, 4096)


def test_a_pod_of_another_run_hides_nothing(memory):
    store = memory()
    chain = LedgerChain(store, "run-2", "curate", 1, clock=lambda: START)
    chain.allocate(Resources(), pod=POD.pod)
    PodLedger(store, RUN).record(ended(POD, 1.0), 9e9)
    assert len(collect(store)) == 2


def test_a_changed_line_is_named(memory):
    store = memory()
    PodLedger(store, RUN).record(ended(POD, 61.0), 9e9)
    [key] = store.objects
    store.objects[key] = store.objects[key].replace(b'"gpus":8', b'"gpus":1')
    with pytest.raises(ZoetropeError, match=r"pods/7c1f\.jsonl, line 1: was changed"):
        collect(store)


def watcher(times, end, gone):
    """An observer with its own looks at a pod that ends at `end` and is deleted at `gone`."""

    def work(store):
        for time in times:
            ledger = PodLedger(store, RUN)
            open_chains = ledger.open_chains()
            if time < gone:
                facts = ended(POD, end, "failed", "lost") if time >= end else POD
                ledger.record(facts, START + time)
            else:
                for uid, events in open_chains.items():
                    ledger.close(uid, events)
            ledger.tidy()

    return work


@SHARED
@given(
    looks=st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=4).map(sorted), min_size=2, max_size=4),
    end=st.integers(0, 3000),
    stays=st.integers(0, 500) | st.just(-1),
    order=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    lives=st.dictionaries(st.integers(0, 3), st.integers(0, 12), max_size=2),
)
def test_no_event_is_lost_whatever_the_order_and_whoever_is_killed(
    memory, interleaved, looks, end, stays, order, lives
):
    store = memory()
    written = []
    put = store.put_bytes
    store.put_bytes = lambda key, data: (written.append((key, data)), put(key, data))[1]
    gone = end + stays if stays >= 0 else end - 1  # -1: deleted before anybody could see the end
    interleaved(store, [watcher(times, end, gone) for times in looks], order, lives)
    pods = read_pods(store, RUN)
    assert bool(pods) == bool(written)
    if not written:
        return
    [events] = pods.values()
    whole = events_of(ended(POD, end, "failed", "lost"), 0.0)
    if any(data.endswith(b"\n") and b'"status":"failed"' in data for _, data in written):
        assert events == whole
        return
    beats = max(data.count(b'"kind":"usage"') for _, data in written)
    assert sum(event.kind == "usage" for event in events) == beats
    # The next look by a single observer brings the chain to its end, in one way.
    ledger = PodLedger(store, RUN)
    for uid, rest in ledger.open_chains().items():
        ledger.close(uid, rest)
    ledger.tidy()
    [events] = read_pods(store, RUN).values()
    assert [events[-1].kind, events[-1].body["reason"]] == ["outcome", GONE]


@SHARED
@given(
    looks=st.lists(st.integers(0, 3000), min_size=2, max_size=4),
    order=st.lists(st.integers(0, 3), min_size=1, max_size=40),
)
@example(looks=[0, 70, 550], order=[0, 0, 0, 2, 0, 1, *[0] * 8, 1, *[2] * 5])
def test_a_reader_always_finds_the_chain(memory, interleaved, looks, order):
    store = memory()
    PodLedger(store, RUN).record(POD, START)
    seen = []

    def read(turns):
        for _ in range(6):
            seen.append(collect(turns, RUN))

    def write(turns):
        for look in sorted(looks):
            ledger = PodLedger(turns, RUN)
            ledger.record(POD, START + look)
            ledger.tidy()

    results = interleaved(store, [read, write, write], order)
    assert not any(isinstance(each, ZoetropeError) for each in results)
    assert [len(each) for each in seen] == [1] * 6
    seconds = [each[0].seconds for each in seen]
    assert seconds == sorted(seconds)
