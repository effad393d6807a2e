"""What is left behind is stopped, what is not ours or not over is left alone."""

from __future__ import annotations

from decimal import Decimal

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import STOP_FIRST
from zoetrope.infra.kubernetes.workflows import end_reason
from zoetrope.infra.ledger import LedgerChain, collect
from zoetrope.infra.ledger.budget import open_reservations, reservations, reserve
from zoetrope.infra.ledger.open_runs import list_open_runs, note_open_run
from zoetrope.infra.placement import Placement
from zoetrope.infra.prices import cost, load_price_sheet
from zoetrope.infra.reaper.reaper import reap
from zoetrope.infra.resources import Resources

RUN = "run-1"
SHEET = "local-2026-11"


def one_pass(cluster, store, **more):
    return reap(cluster, store, clock=cluster.clock, sleep=cluster.sleep, **more)


def actions(done):
    return [(action.action, action.name) for action in done.actions]


def reserved(store, cluster, job="z1", run=RUN):
    reserve(store, run, job, 1, Placement(deadline=3600), price_sheet=SHEET, budget_usd="5", clock=cluster.clock)


@pytest.fixture
def left_behind(cluster, store, make):
    cluster.add("workflows", make.workflow("wf", RUN, "Failed"))
    cluster.add("trainjobs", make.trainjob("z1", RUN))
    cluster.add("pods", make.job_pod("z1-node-0-0-aaaaa", "z1"))
    cluster.now += 100
    reserved(store, cluster)
    return cluster


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Error"])
def test_a_job_whose_run_has_ended_is_deleted_and_billed_to_its_end(left_behind, store, make, phase):
    left_behind.add("workflows", make.workflow("wf", RUN, phase))
    done = one_pass(left_behind, store)
    assert done.failures == []
    assert ("deleted", "z1") in actions(done)
    assert ("settled", "z1.1") in actions(done)
    assert done.actions[0].why == f"its run has ended ({phase})"
    assert left_behind.objects["trainjobs"] == {}
    [entry] = collect(store, RUN)
    # Deleted 100 s after the start, ended 2 s later; scheduled 10 s after the start.
    assert (entry.outcome, entry.seconds, entry.reason) == ("cancelled", 92.0, "node: Error (exit 143)")
    assert open_reservations(store, RUN) == []
    assert one_pass(left_behind, store).actions == []


def test_a_reservation_is_settled_by_the_sheet_that_it_was_made_by(cluster, store, make, monkeypatch):
    """8 H200 for an hour are 16.00 USD by the run's sheet; this machine's own would say 1.69."""
    monkeypatch.setenv("ZOETROPE_PRICE_SHEET", "local-2026-11")
    asked = Placement(gpus=8, gpu_kind="h200", deadline=3600)
    sheet = "open-sora-2-paper-2025-03"
    assert reserve(store, RUN, "z1", 1, asked, price_sheet=sheet, clock=cluster.clock).usd == Decimal(16)
    cluster.add("workflows", make.workflow("wf", RUN, "Succeeded"))
    cluster.add("trainjobs", make.trainjob("z1", RUN, condition="Complete"))
    cluster.add("pods", make.job_pod("z1-node-0-0-aaaaa", "z1", scheduled=10, ended=3610, gpus=8))
    cluster.now += 4000
    done = one_pass(cluster, store)
    assert [each.why for each in done.actions if each.action == "settled"] == ["16.000000 USD"]
    [entry] = collect(store, RUN)
    assert f"{cost(entry, load_price_sheet('local-2026-11')):.2f}" == "1.69"
    assert reservations(store, RUN)["z1", 1].settled_usd == Decimal(16)


def test_terminate_and_deleted_runs(left_behind, store, make):
    left_behind.add("workflows", make.workflow("wf", RUN, "Running", activeDeadlineSeconds=0))
    left_behind.add("trainjobs", make.trainjob("z2", "run-2", workflow="deleted"))
    reserved(store, left_behind, "z2", "run-2")
    note_open_run(store, "test", "run-2", "deleted")
    done = one_pass(left_behind, store)
    assert {action.name: action.why for action in done.actions if action.action == "deleted"} == {
        "z1": "its run was asked to terminate",
        "z2": "its run is gone",
    }
    assert open_reservations(store, "run-2") == []
    assert list_open_runs(store, "test") == {}


def test_a_deleted_run_is_settled_though_no_pass_ever_saw_it(cluster, store, make):
    """With its job still there, and with everything of it gone."""
    cluster.add("trainjobs", make.trainjob("z1", RUN, workflow="deleted"))
    cluster.add("pods", make.job_pod("z1-node-0-0-aaaaa", "z1"))
    cluster.now += 100
    reserved(store, cluster)
    reserve(
        store, "run-2", "z2", 1, Placement(deadline=60), price_sheet=SHEET, budget_usd="5", namespace="test",
        workflow="deleted", clock=cluster.clock,
    )  # fmt: skip
    assert one_pass(cluster, store).failures == []
    assert open_reservations(store, RUN) == open_reservations(store, "run-2") == []
    assert list_open_runs(store, "test") == {}
    assert [entry.outcome for entry in collect(store)] == ["cancelled"]


def test_a_job_of_a_running_run_is_left_alone_whatever_became_of_its_launcher(left_behind, store, make):
    left_behind.add("workflows", make.workflow("wf", RUN, "Running"))
    done = one_pass(left_behind, store)
    assert ("delete", "trainjobs", "z1") not in left_behind.calls
    assert not [action for action in done.actions if action.action in ("deleted", "settled")]
    # Its costs are noted while it runs, so that little is lost whatever happens.
    assert collect(store, RUN)[0].seconds == 60.0
    assert list_open_runs(store, "test") == {RUN: "wf"}


def test_foreign_jobs_are_never_touched(cluster, store, make):
    cluster.add(
        "trainjobs",
        make.trainjob("theirs", RUN, workflow="deleted", labels={"zoetrope/run": RUN}),
        make.trainjob("by-hand", "", workflow="deleted", labels={"app.kubernetes.io/managed-by": "zoetrope"}),
        make.trainjob("unowned", RUN, workflow=""),
    )
    done = one_pass(cluster, store)
    assert (done.actions, done.failures) == ([], [])
    assert len(cluster.objects["trainjobs"]) == 3


def test_the_owner_names_the_workflow_where_the_annotation_is_missing(left_behind, store):
    meta = left_behind.objects["trainjobs"]["z1"]["metadata"]
    meta |= {"annotations": {}, "ownerReferences": [{"kind": "Workflow", "name": "wf"}]}
    assert ("deleted", "z1") in actions(one_pass(left_behind, store))


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
def test_an_ended_job_stays_for_a_retry_of_the_run_and_goes_with_it(left_behind, store, make, condition):
    left_behind.add("trainjobs", make.trainjob("z1", RUN, condition=condition))
    left_behind.add("pods", make.job_pod("z1-node-0-0-aaaaa", "z1", ended=70))
    done = one_pass(left_behind, store)
    assert "z1" in left_behind.objects["trainjobs"]
    assert ("settled", "z1.1") in actions(done)
    del left_behind.objects["workflows"]["wf"]
    assert ("deleted", "z1") in actions(one_pass(left_behind, store))


def test_dry_run_tells_and_touches_nothing(left_behind, store):
    before = {uri: store.read(uri) for uri in store.list("")}
    done = one_pass(left_behind, store, dry_run=True)
    assert actions(done) == [("deleted", "z1")]
    assert "z1" in left_behind.objects["trainjobs"]
    assert {uri: store.read(uri) for uri in store.list("")} == before


def test_one_failing_job_does_not_stop_the_others(left_behind, store, make):
    left_behind.add("trainjobs", make.trainjob("a1", RUN), make.trainjob("z3", RUN))
    left_behind.refused.add(("delete", "trainjobs", "a1"))
    done = one_pass(left_behind, store)
    assert sorted(left_behind.objects["trainjobs"]) == ["a1"]
    assert [(action.name, action.why) for action in done.failures] == [("a1", "delete trainjobs a1: refused")]
    left_behind.refused.clear()
    assert ("deleted", "a1") in actions(one_pass(left_behind, store))


def test_a_workflow_that_cannot_be_read_is_no_reason_to_delete(left_behind, store):
    left_behind.refused.add(("get", "workflows", "wf"))
    done = one_pass(left_behind, store)
    assert "z1" in left_behind.objects["trainjobs"]
    assert [action.name for action in done.failures] == ["z1"]


def test_an_answer_nobody_foresaw_does_not_stop_the_others(left_behind, store, make):
    left_behind.add("workflows", {"metadata": {"name": "odd"}, "status": 5})
    left_behind.add("trainjobs", make.trainjob("a1", RUN, workflow="odd"))
    done = one_pass(left_behind, store)
    assert sorted(left_behind.objects["trainjobs"]) == ["a1"]
    assert done.failures[0].name == "a1"


def test_where_the_store_is_away_jobs_are_stopped_and_the_ledger_follows(left_behind, store, monkeypatch):
    one_pass_before = make_running(left_behind, store)

    def away(*_):
        raise ZoetropeError("store away", retryable=True)

    for name in ("put_bytes", "list", "read", "exists"):
        monkeypatch.setattr(store, name, away)
    done = one_pass(left_behind, store)
    assert left_behind.objects["trainjobs"] == {}
    assert {action.why for action in done.failures} == {"store away"}
    monkeypatch.undo()
    left_behind.now += 60
    one_pass(left_behind, store)
    [entry] = collect(store, RUN)
    assert (entry.outcome, entry.seconds) == ("cancelled", one_pass_before)
    assert open_reservations(store, RUN) == []


def make_running(cluster, store):
    """The pass before: the run was still going; returns what it noted."""
    phase = cluster.objects["workflows"]["wf"]["status"]
    phase["phase"] = "Running"
    one_pass(cluster, store)
    phase["phase"] = "Failed"
    return collect(store, RUN)[0].seconds


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(1, 30))
def test_killed_at_any_call_the_next_pass_brings_it_to_the_same_end(left_behind, store, after):
    make_running(left_behind, store)
    left_behind.calls.clear()
    call = left_behind._call

    def dying(*which):
        if len(left_behind.calls) >= after:
            raise Killed
        call(*which)

    left_behind._call = dying
    try:
        one_pass(left_behind, store)
    except Killed:
        left_behind._call = call
        left_behind.now += 60
        done = one_pass(left_behind, store)
        assert done.failures == []
    assert left_behind.objects["trainjobs"] == {}
    assert open_reservations(store, RUN) == []
    assert list_open_runs(store, "test") == {}
    [entry] = collect(store, RUN)
    assert entry.outcome == "cancelled"
    assert entry.seconds >= 60.0


def test_an_ended_run_without_jobs_is_collected_once_and_closed(cluster, store, make):
    cluster.add("workflows", make.workflow("wf", RUN, "Running"), make.workflow("theirs", "run-9"))
    cluster.add("pods", make.step_pod("wf-a", RUN), make.step_pod("theirs-a", "run-9"))
    LedgerChain(store, RUN, "curate", 1, clock=cluster.clock).allocate(Resources(), pod="wf-a")
    cluster.now += 90
    one_pass(cluster, store)
    assert list_open_runs(store, "test") == {RUN: "wf"}
    cluster.add("workflows", make.workflow("wf", RUN, "Succeeded"))
    cluster.add("pods", make.step_pod("wf-a", RUN, ended=95))
    one_pass(cluster, store)
    assert [(entry.pod, entry.outcome, entry.seconds) for entry in collect(store)] == [("wf-a", "succeeded", 85.0)]
    assert list_open_runs(store, "test") == {}


def test_two_reapers_at_once_do_what_one_does(left_behind, store):
    import threading

    results = []
    work = [threading.Thread(target=lambda: results.append(one_pass(left_behind, store))) for _ in range(2)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    one_pass(left_behind, store)
    assert left_behind.objects["trainjobs"] == {}
    assert open_reservations(store, RUN) == []
    [entry] = collect(store, RUN)
    assert entry.outcome == "cancelled"


def test_a_job_whose_pods_are_gone_is_settled_before_its_own_object_is(left_behind, store, make, monkeypatch):
    left_behind.objects["pods"].clear()
    left_behind.objects["trainjobs"]["z1"]["metadata"]["deletionTimestamp"] = make.stamp(90)
    monkeypatch.setattr(left_behind, "_pass_time", lambda: None)
    done = one_pass(left_behind, store)
    assert actions(done) == [("settled", "z1.1")]
    assert open_reservations(store, RUN) == []


@pytest.mark.parametrize("condition", ["", "Complete"])
def test_a_job_that_was_deleted_is_stopped_and_let_go(left_behind, store, make, condition):
    left_behind.add("workflows", make.workflow("wf", RUN, "Running"))
    job = make.trainjob("z1", RUN, condition=condition)
    job["metadata"] |= {"deletionTimestamp": make.stamp(90), "finalizers": [STOP_FIRST]}
    left_behind.add("trainjobs", job)
    assert actions(one_pass(left_behind, store, dry_run=True)) == [("deleted", "z1")]
    done = one_pass(left_behind, store)
    assert (done.actions[0].action, done.actions[0].why) == ("deleted", "it was deleted")
    assert left_behind.objects["trainjobs"] == {}
    assert [entry.outcome for entry in collect(store, RUN)] == ["cancelled"]


def test_a_job_is_settled_when_its_pods_have_ended_and_not_before(left_behind, store):
    left_behind.grace = 100.0  # longer than the reaper looks
    done = one_pass(left_behind, store)
    assert ("deleted", "z1") in actions(done)
    assert len(open_reservations(store, RUN)) == 1
    assert list_open_runs(store, "test") == {RUN: "wf"}
    left_behind.now += 60
    done = one_pass(left_behind, store)
    assert ("settled", "z1.1") in actions(done)
    [entry] = collect(store, RUN)
    assert entry.seconds == 190.0
    assert list_open_runs(store, "test") == {}


@pytest.mark.parametrize("how", [{"activeDeadlineSeconds": 0}, {"shutdown": "Terminate"}, {"shutdown": "Stop"}])
def test_both_ways_to_terminate_a_run_end_it(make, how):
    assert end_reason(make.workflow("wf", RUN, "Running", **how)) == "its run was asked to terminate"
    assert end_reason(None) == "its run is gone"


def test_a_run_that_has_not_begun_is_not_over(make):
    assert end_reason({"metadata": {}, "spec": {}}) == ""
    assert end_reason(make.workflow("wf", RUN, "Pending", activeDeadlineSeconds=3600)) == ""
