"""From pods as the Kubernetes API gives them to entries of the ledger."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerChain, collect
from zoetrope.infra.ledger.budget import open_reservations, reserve
from zoetrope.infra.ledger.open_runs import list_open_runs
from zoetrope.infra.placement import Placement
from zoetrope.infra.reaper.collector import collect_pods, collect_run, collect_this_run, finished_job_hook
from zoetrope.infra.reaper.pod_facts import pod_facts
from zoetrope.infra.resources import Resources
from zoetrope.infra.settings import Settings

RUN = "11111111-2222-3333-4444-555555555555"


def look(cluster, store):
    return collect_run(cluster, store, RUN, clock=cluster.clock)


def contents(store):
    return {uri: store.read(uri) for uri in store.list("ledger/")}


@pytest.fixture
def run(cluster, make):
    cluster.add("workflows", make.workflow("wf", RUN))
    cluster.add("trainjobs", make.trainjob("z1", RUN, attempt=2))
    cluster.add(
        "pods",
        make.step_pod("wf-driver", RUN, "wf.root.stage-1-driver", ended=20, cpu="100m"),
        make.step_pod("wf-step", RUN, "wf.root.stage-1.executor(1)"),
        make.job_pod("z1-node-0-0-aaaaa", "z1", created=5, scheduled=65, gpus=8),
        make.job_pod("z1-node-0-1-bbbbb", "z1", scheduled=None),
        make.job_pod("foreign-node-0-0-ccccc", "foreign"),
        make.step_pod("other-step", "another-run"),
    )
    return cluster


def test_a_run_is_its_steps_its_drivers_and_the_pods_of_its_jobs(run, store, make):
    run.now += 100
    found = look(run, store)
    assert (found.pods, found.running, found.written, found.gone) == (3, 2, 3, 0)
    entries = {entry.pod: entry for entry in collect(store, RUN)}
    assert sorted(entries) == ["wf-driver", "wf-step", "z1-node-0-0-aaaaa"]
    driver, step, node = (entries[name] for name in sorted(entries))
    assert (driver.step, driver.role, driver.attempt, driver.outcome, driver.seconds) == (
        "stage_1", "driver", 1, "succeeded", 10.0,
    )  # fmt: skip
    assert (step.step, step.role, step.attempt, step.outcome) == ("stage_1", "step", 2, "open")
    assert (node.step, node.role, node.attempt, node.job) == ("stage_1", "job", 2, "z1")
    assert node.resources == Resources(cpu=2, memory_gb=1.073741824, gpus=8, gpu_kind="h200")
    assert (node.queued_seconds, node.started, node.node_type) == (60.0, make.start + 65, "m7i.xlarge")


def test_looking_twice_changes_nothing_and_later_looks_continue(run, store, make):
    run.now += 100
    look(run, store)
    before = contents(store)
    assert look(run, store).written == 0
    assert contents(store) == before
    run.add("pods", make.step_pod("wf-step", RUN, "wf.root.stage-1.executor(1)", ended=150))
    run.now += 100
    look(run, store)
    entries = {entry.pod: entry for entry in collect(store, RUN)}
    assert (entries["wf-step"].outcome, entries["wf-step"].seconds) == ("succeeded", 140.0)
    assert entries["z1-node-0-0-aaaaa"].seconds == 120.0


def test_pods_of_a_job_that_is_gone_are_brought_to_their_end(run, store, make):
    run.now += 200
    look(run, store)
    del run.objects["trainjobs"]["z1"]
    run.add("pods", make.job_pod("z1-node-0-0-aaaaa", "z1", created=5, scheduled=65, ended=180, exit_code=1, gpus=8))
    look(run, store)
    [node] = [entry for entry in collect(store, RUN) if entry.role == "job"]
    assert (node.step, node.attempt, node.outcome, node.seconds) == ("stage_1", 2, "failed", 115.0)
    assert node.reason == "node: Error (exit 1)"
    assert node.resources.gpu_kind == "h200"


def test_a_pod_nobody_saw_end_is_closed(run, store):
    run.now += 200
    look(run, store)
    del run.objects["pods"]["z1-node-0-0-aaaaa"]
    found = look(run, store)
    assert found.gone == 1
    [node] = [entry for entry in collect(store, RUN) if entry.role == "job"]
    assert (node.outcome, node.seconds) == ("cancelled", 120.0)
    assert look(run, store).gone == 0


def test_pods_of_an_older_try_of_a_job_keep_their_number(run, store, make):
    run.add("trainjobs", make.trainjob("z1", RUN, attempt=3, created=50))
    run.add("pods", make.job_pod("z1-node-0-0-ddddd", "z1", created=51, scheduled=52))
    look(run, store)
    entries = {entry.pod: entry.attempt for entry in collect(store, RUN) if entry.role == "job"}
    assert entries == {"z1-node-0-0-aaaaa": 2, "z1-node-0-0-ddddd": 3}


def test_without_the_right_to_read_nodes_the_machine_stays_unnamed(run, store):
    run.node_labels = None
    look(run, store)
    assert {entry.node_type for entry in collect(store, RUN)} == {""}
    assert len([call for call in run.calls if call[1] == "nodes"]) == 1


def test_a_fault_of_the_store_half_way_is_mended_by_the_next_look(run, store, monkeypatch):
    run.now += 100
    put = store.put_bytes
    left = [2]

    def failing(key, data):
        left[0] -= 1
        if left[0] < 0:
            raise ZoetropeError("store away", retryable=True)
        return put(key, data)

    monkeypatch.setattr(store, "put_bytes", failing)
    with pytest.raises(ZoetropeError, match="store away"):
        look(run, store)
    monkeypatch.undo()
    assert len(collect(store, RUN)) == 2
    look(run, store)
    assert len(collect(store, RUN)) == 3


def test_several_at_once_write_what_one_writes(run, store, tmp_path):
    from zoetrope.infra.store import open_store

    run.now += 100
    alone = open_store(tmp_path / "alone")
    look(run, alone)
    threads = [threading.Thread(target=look, args=(run, store)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collect(store, RUN) == collect(alone, RUN)


def test_the_step_inside_a_pod_is_not_billed_twice(run, store, make):
    chain = LedgerChain(store, RUN, "stage_1", 2, clock=lambda: make.start + 15)
    chain.allocate(Resources(cpu=0.5, memory_gb=1), pod="wf-step")
    assert [entry.source for entry in collect(store, RUN)] == ["step"]
    look(run, store)
    assert [entry.source for entry in collect(store, RUN)] == ["pod"] * 3


def test_the_launchers_hook_notes_the_job_and_settles_it(run, store, make):
    reserve(
        store, RUN, "z1", 2, Placement(gpus=8, gpu_kind="h200", deadline=3600),
        budget_usd="20", price_sheet="open-sora-2-paper-2025-03", clock=run.clock,
    )  # fmt: skip
    hook = finished_job_hook(run, store, RUN, clock=run.clock)
    hook(make.trainjob("z1", RUN, attempt=2), run.pods({}))
    assert len(open_reservations(store, RUN)) == 1  # it runs: it was left for the next attempt to adopt
    done = make.job_pod("z1-node-0-0-aaaaa", "z1", created=5, scheduled=65, ended=965, gpus=8)
    hook(make.trainjob("z1", RUN, attempt=2, condition="Complete"), [done])
    assert open_reservations(store, RUN) == []
    [node] = [entry for entry in collect(store, RUN) if entry.pod == "z1-node-0-0-aaaaa"]
    assert node.seconds == 900.0


def test_the_exit_task_collects_settles_and_leaves_the_rest_to_the_reaper(run, store, make):
    reserve(store, RUN, "z1", 1, Placement(deadline=60), price_sheet="local-2026-11", budget_usd="1", clock=run.clock)
    reserve(store, RUN, "z1", 2, Placement(deadline=60), price_sheet="local-2026-11", budget_usd="1", clock=run.clock)
    reserve(store, RUN, "z9", 1, Placement(deadline=60), price_sheet="local-2026-11", budget_usd="1", clock=run.clock)
    settings = Settings(store=store.root, run_id=RUN, namespace="test", workflow="wf")
    assert collect_this_run(settings, run).pods == 3
    # Try 1 was followed by try 2, which runs; z9 is not there and will not come any more.
    assert [(each.job, each.attempt) for each in open_reservations(store, RUN)] == [("z1", 2)]
    assert list_open_runs(store, "test") == {RUN: "wf"}


def test_pods_at_hand_are_written_without_asking_the_cluster(run, store, make):
    pods = [make.job_pod("z1-node-0-0-aaaaa", "z1", ended=70)]
    assert collect_pods(run, store, RUN, pods, make.trainjob("z1", RUN)) == 1
    assert not [call for call in run.calls if call[1] != "nodes"]


@pytest.mark.parametrize(
    ("node_name", "step", "attempt", "role"),
    [
        ("nano-x7.root-driver", "pipeline", 1, "driver"),
        ("nano-x7.root.stage-1-driver", "stage_1", 1, "driver"),
        ("nano-x7.root.stage-1.executor", "stage_1", 1, "step"),
        ("nano-x7.root.stage-1(2).executor", "stage_1", 3, "step"),
        # As KFP 2.17 with Argo 4.0.5 writes them.
        ("nano-x7(0).root(0).exit-handler-1(0).resolve(0).executor(1)", "resolve", 2, "step"),
        ("nano-x7(0).root(0).exit-handler-1.onExit(0).finish-driver(0)", "finish", 1, "driver"),
        ("", "pipeline", 1, "step"),
    ],
)
def test_argos_name_of_a_node_says_which_step_it_is(make, node_name, step, attempt, role):
    facts = pod_facts(make.step_pod("p", RUN, node_name))
    assert (facts.step, facts.attempt, facts.role) == (step, attempt, role)


def test_what_is_held_is_what_the_scheduler_sets_aside(make):
    pod = make.step_pod("p", RUN, cpu="250m")
    pod["spec"]["containers"].append({"name": "wait", "resources": {"requests": {"cpu": "0.25", "memory": "64Mi"}}})
    pod["spec"]["initContainers"] = [
        {"name": "first", "resources": {"requests": {"cpu": "3"}}},
        {"name": "sidecar", "restartPolicy": "Always", "resources": {"limits": {"memory": "1G"}}},
        {"name": "none"},
    ]
    pod["spec"]["overhead"] = {"cpu": "100m"}
    held = pod_facts(pod).resources
    assert held.cpu == pytest.approx(3.1)
    assert held.memory_gb == pytest.approx((2**30 + 64 * 2**20 + 10**9) / 10**9)


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        ("NVIDIA-H200", "h200"),
        ("NVIDIA-A100-SXM4-80GB", "a100"),
        ("NVIDIA-GeForce-RTX-4090", "rtx4090"),
        ("", "nvidia.com/gpu"),
    ],
)
def test_the_kind_of_gpu_comes_from_the_node_where_the_job_does_not_say(make, product, kind):
    pod = make.step_pod("p", RUN, gpus=1)
    assert pod_facts(pod, None, {"nvidia.com/gpu.product": product}).resources.gpu_kind == kind


def test_an_evicted_pod_ends_when_it_was_given_up(make):
    pod = make.job_pod("p", "z1")
    conditions = pod["status"]["conditions"]
    conditions.append(
        {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": make.stamp(70), "message": "preempted"}
    )
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    facts = pod_facts(pod, make.trainjob("z1", RUN))
    assert (facts.outcome, facts.ended - facts.scheduled) == ("failed", 60.0)
    assert facts.reason == "Evicted; The node was low on resource: memory.; preempted"


@pytest.mark.parametrize(("asked", "outcome"), [(60, "cancelled"), (90, "failed")])
def test_a_pod_that_was_asked_to_end_is_cancelled_and_one_deleted_afterwards_is_not(make, asked, outcome):
    pod = make.job_pod("p", "z1", ended=80, exit_code=143)
    pod["metadata"] |= {"deletionTimestamp": make.stamp(asked + 30), "deletionGracePeriodSeconds": 30}
    assert pod_facts(pod, make.trainjob("z1", RUN)).outcome == outcome


def test_a_pod_without_a_node_holds_nothing(make):
    pod = make.step_pod("p", RUN, scheduled=None)
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    assert pod_facts(pod) is None


def test_cost_is_what_the_pods_held(run, store):
    from zoetrope.infra.prices import cost, load_price_sheet

    run.now += 3600 + 65 + 10
    look(run, store)
    [node] = [entry for entry in collect(store, RUN) if entry.role == "job"]
    assert cost(node, load_price_sheet("open-sora-2-paper-2025-03")) == Decimal(16)
