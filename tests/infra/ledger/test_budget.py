"""Budget of a run: reserved before a job starts, settled when it has ended."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain, PodFacts, PodLedger, collect
from zoetrope.infra.ledger.budget import next_job_attempt, open_reservations, reservations, reserve, settle
from zoetrope.infra.placement import Placement
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.resources import Resources

RUN = "run-1"
SHEET = "open-sora-2-paper-2025-03"  # 2.00 USD per H200 and hour, nothing else


def place(gpus=1, hours=1.0, nodes=1):
    return Placement(nodes=nodes, gpus=gpus, gpu_kind="h200", deadline=int(hours * 3600), cpu=4, memory_gb=8)


def take(store, job, placement=None, budget="100", attempt=1):
    return reserve(
        store, RUN, job, attempt, placement or place(), budget_usd=budget, price_sheet=SHEET, clock=lambda: 1000.0
    )


def give_back(store, job, attempt=1):
    return settle(store, RUN, job, attempt, clock=lambda: 2000.0)


def pod_of(job, seconds, attempt=1, uid="u1", gpus=1):
    return PodFacts(
        uid=uid, pod=f"{job}-node-0-0-{uid}", namespace="n", step="stage_1", attempt=attempt, role="job", job=job,
        resources=Resources(cpu=4, memory_gb=8, gpus=gpus, gpu_kind="h200"), gpu_resource="nvidia.com/gpu",
        node="", node_type="", created=1000.0, scheduled=1000.0, ended=1000.0 + seconds,
    )  # fmt: skip


def test_a_job_reserves_all_its_nodes_until_its_deadline(memory):
    store = memory()
    assert take(store, "z1", place(gpus=8, nodes=2, hours=3)).usd == Decimal(2 * 8 * 3 * 2)
    [found] = open_reservations(store, RUN)
    assert (found.job, found.attempt, found.usd, found.accepted) == ("z1", 1, Decimal(96), True)
    assert f"ledger/{RUN}/budget/z1.1.jsonl" in store.objects


def test_cpu_is_reserved_as_it_will_be_billed(memory):
    store = memory()
    asked = Placement(cpu=8, cpu_request=2, memory_gb=10, nodes=3, deadline=3600)
    usd = reserve(store, RUN, "z1", 1, asked, price_sheet="local-2026-11").usd
    assert usd == 3 * (2 * Decimal("0.003") + 10 * Decimal("0.00012"))


def test_more_than_is_left_is_refused_in_one_line_that_names_the_amounts(memory):
    store = memory()
    take(store, "z1", place(gpus=2), budget="9")
    PodLedger(store, RUN).record(pod_of("other", 3600), 9e9)
    with pytest.raises(ZoetropeError) as caught:
        take(store, "z2", place(gpus=2), budget="9")
    assert caught.value.exit_code == 2
    assert caught.value.headline == (
        "budget: z2 may cost up to 4.00 USD and only 3.00 of 9.00 USD are left (2.00 spent, 4.00 reserved)"
    )
    assert [each.job for each in open_reservations(store, RUN)] == ["z1"]
    take(store, "z3", place(gpus=1), budget="9")


def test_without_a_budget_it_is_noted_all_the_same(memory):
    store = memory()
    take(store, "z1", place(gpus=1000, hours=10000), budget="")
    assert len(open_reservations(store, RUN)) == 1


def test_what_is_settled_is_free_again_but_for_what_was_spent(memory):
    store = memory()
    take(store, "z1", place(gpus=4), budget="8")
    PodLedger(store, RUN).record(pod_of("z1", 1800, gpus=4), 9e9)
    with pytest.raises(ZoetropeError):
        take(store, "z2", place(gpus=2), budget="8")
    assert give_back(store, "z1") == Decimal(4)
    assert open_reservations(store, RUN) == []
    take(store, "z2", place(gpus=2), budget="8")
    with pytest.raises(ZoetropeError, match=r"4\.00 spent, 4\.00 reserved"):
        take(store, "z3", place(gpus=1), budget="8")


def test_a_job_that_is_adopted_keeps_its_reservation_though_the_budget_has_shrunk(memory):
    store = memory()
    first = take(store, "z1", place(gpus=4), budget="8")
    before = dict(store.objects)
    PodLedger(store, RUN).record(pod_of("other", 3600 * 3), 9e9)
    assert take(store, "z1", place(gpus=4), budget="8") == first
    assert {key: data for key, data in store.objects.items() if "/budget/" in key} == before


def test_settling_twice_changes_nothing(memory):
    store = memory()
    take(store, "z1")
    PodLedger(store, RUN).record(pod_of("z1", 900), 9e9)
    assert give_back(store, "z1") == Decimal("0.5")
    before = dict(store.objects)
    assert settle(store, RUN, "z1", 1, clock=lambda: 9e9) == Decimal("0.5")
    assert store.objects == before


def test_nothing_reserved_is_nothing_to_settle(memory):
    store = memory()
    assert give_back(store, "z1") == 0
    assert store.objects == {}


def test_a_job_that_comes_back_is_a_new_try(memory):
    store = memory()
    assert next_job_attempt(store, RUN, "z1") == 1
    take(store, "z1")
    assert next_job_attempt(store, RUN, "z1") == 1  # it is adopted
    give_back(store, "z1")
    with pytest.raises(ZoetropeError, match="attempt 1 of z1 has ended") as caught:
        take(store, "z1")
    assert caught.value.hint == "start it as attempt 2"
    take(store, "z1", attempt=next_job_attempt(store, RUN, "z1"))
    assert next_job_attempt(store, RUN, "z2") == 1


def test_tries_are_reserved_apart(memory):
    store = memory()
    take(store, "z1", budget="4")
    give_back(store, "z1")
    take(store, "z1", budget="4", attempt=2)
    assert [(each.job, each.attempt) for each in open_reservations(store, RUN)] == [("z1", 2)]


def test_a_claim_of_a_killed_launcher_counts_until_it_is_checked_again_or_settled(memory, interleaved):
    store = memory()
    interleaved(store, [lambda turns: take(turns, "z1", budget="2")], [0], lives={0: 4})
    [claim] = open_reservations(store, RUN)
    assert not claim.accepted
    with pytest.raises(ZoetropeError, match=r"2\.00 reserved"):
        take(store, "z2", budget="2")
    take(store, "z1", budget="2")
    assert open_reservations(store, RUN)[0].accepted
    give_back(store, "z1")
    take(store, "z2", budget="2")


def test_a_gpu_without_a_price_is_refused_before_anything_is_written(memory):
    store = memory()
    with pytest.raises(ZoetropeError, match="no price for GPU 'b300'"):
        take(store, "z1", place().model_copy(update={"gpu_kind": "b300"}))
    assert store.objects == {}


def test_a_changed_reservation_is_named(memory):
    store = memory()
    take(store, "z1")
    key = f"ledger/{RUN}/budget/z1.1.jsonl"
    store.objects[key] = store.objects[key].replace(b'"deadline":3600', b'"deadline":3601')
    with pytest.raises(ZoetropeError, match=r"z1\.1\.jsonl, line 1: was changed"):
        open_reservations(store, RUN)


def test_reservations_are_no_entries(memory):
    store = memory()
    take(store, "z1")
    give_back(store, "z1")
    chain = LedgerChain(store, RUN, "curate", 1, clock=lambda: 1.0)
    chain.allocate(Resources())
    assert [entry.step for entry in collect(store)] == ["curate"]


JOBS = st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    launchers=st.lists(JOBS, min_size=2, max_size=4),
    sizes=st.fixed_dictionaries({job: st.integers(1, 5) for job in ("a", "b", "c")}),
    budget=st.integers(1, 20),
    order=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    lives=st.dictionaries(st.integers(0, 3), st.integers(0, 10), max_size=2),
)
def test_the_budget_holds_and_no_event_is_lost_in_any_order(
    memory, interleaved, launchers, sizes, budget, order, lives
):
    store, sheet = memory(), load_price_sheet(SHEET)
    too_much = []
    put = store.put_bytes

    def watched(key, data):
        put(key, data)
        accepted = [each for each in reservations(store, RUN).values() if each.accepted and each.settled_usd is None]
        spent = sum((cost(entry, sheet) for entry in collect(store, RUN)), Decimal(0))
        held = sum(cost(entry, sheet) for entry in collect(store, RUN) if entry.job in {e.job for e in accepted})
        if sum(each.usd for each in accepted) + spent - held > budget:
            too_much.append(key)
        return store.uri(key)

    store.put_bytes = watched

    def launcher(job, ends):
        gpus = sizes[job]

        def work(turns):
            take(turns, job, place(gpus=gpus), budget=str(budget))
            if ends:
                facts = pod_of(job, 1800, uid=f"u{job}", gpus=gpus)
                PodLedger(turns, RUN).record(facts, 9e9)
                give_back(turns, job)
            return job

        return work

    works = [launcher(*each) for each in launchers]
    results = interleaved(store, works, order, lives)
    assert too_much == []
    found = reservations(store, RUN)
    for result, (job, ends) in zip(results, launchers, strict=True):
        if result == job:  # accepted, and by then settled: both are still there
            assert found[job, 1].accepted
            if ends:
                assert found[job, 1].settled_usd is not None
    for job, attempt in list(found):
        give_back(store, job, attempt)
    assert open_reservations(store, RUN) == []
