"""Why a job failed, from what is left of it."""

import pytest

from zoetrope.infra.launch.trainjob.failure import Kind, classify
from zoetrope.infra.launch.trainjob.pods import History

TORCHRUN = """
[default0]:RuntimeError: shard 7: checksum differs
============
train.py FAILED
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  exitcode  : {code} (pid: 42)
"""


@pytest.fixture
def failed(make):
    return make.job(conditions=[make.condition("Failed", reason="FailedJobs", message="jobset failed")])


def kind(job, *pods):
    return classify(job, History.of(pods)).kind


@pytest.mark.parametrize(
    ("code", "reason", "wanted"),
    [
        (2, "Error", Kind.USER_ERROR),
        (1, "Error", Kind.USER_ERROR),
        (139, "Error", Kind.USER_ERROR),
        (75, "Error", Kind.PASSING),
        (143, "Error", Kind.LOST_NODE),
        (137, "Error", Kind.OUT_OF_MEMORY),
        (137, "OOMKilled", Kind.OUT_OF_MEMORY),
        (1, "OOMKilled", Kind.OUT_OF_MEMORY),
    ],
)
def test_what_a_pod_ended_with(make, failed, code, reason, wanted):
    found = classify(failed, History.of([make.pod(0, "Failed", exit_code=code, reason=reason)]))
    assert found.kind is wanted
    assert found.exit_code == code
    assert found.pod


@pytest.mark.parametrize(
    ("status", "conditions", "wanted"),
    [
        ({}, [("DisruptionTarget", "PreemptionByScheduler")], Kind.PREEMPTED),
        ({}, [("DisruptionTarget", "DeletionByTaintManager")], Kind.LOST_NODE),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, [], Kind.LOST_NODE),
        ({"reason": "Evicted", "message": "Container node exceeded its local ephemeral storage limit"}, [],
         Kind.OUT_OF_DISK),
        ({"reason": "NodeShutdown"}, [], Kind.LOST_NODE),
        ({"reason": "OutOfcpu"}, [], Kind.LOST_NODE),
    ],
)  # fmt: skip
def test_what_happened_to_a_pod_counts_before_what_its_peers_ended_with(make, failed, status, conditions, wanted):
    hit = [make.condition(name, reason=reason) for name, reason in conditions]
    gone = make.pod(1, "Failed", exit_code=143, ended=make.at(70), conditions=hit, status=status)
    assert kind(failed, gone, make.pod(0, "Failed", exit_code=1, ended=make.at(60))) is wanted


def test_memory_counts_before_everything(make, failed):
    pods = [
        make.pod(0, "Failed", exit_code=1, ended=make.at(50)),
        make.pod(1, "Failed", exit_code=137, reason="OOMKilled", ended=make.at(60)),
    ]
    assert kind(failed, *pods) is Kind.OUT_OF_MEMORY


def test_the_first_to_fail_is_the_cause_and_among_equals_the_one_that_says_most(make, failed):
    first, second = make.pod(0, "Failed", exit_code=75, ended=make.at(50)), make.pod(1, "Failed", exit_code=2)
    assert kind(failed, second, first) is Kind.PASSING
    plain, specific = make.pod(0, "Failed", exit_code=1), make.pod(1, "Failed", exit_code=75)
    assert kind(failed, plain, specific) is Kind.PASSING


def test_a_pod_deleted_from_outside_is_a_lost_one_and_its_peers_say_nothing(make, failed):
    history = History()
    history.see(make.pod(1, "Running", deleted=make.at(30)))
    history.see(make.pod(0, "Failed", exit_code=1))
    history.see(make.pod(1, "Failed", exit_code=143, deleted=make.at(30)), gone=True)
    found = classify(failed, history)
    assert found.kind is Kind.LOST_NODE
    assert "node-0-1" in found.message


def test_a_pod_that_kubernetes_deleted_after_the_failure_is_not_the_cause(make, failed):
    history = History()
    history.see(make.pod(0, "Failed", exit_code=2))
    history.see(make.pod(1, "Running", deleted=make.at(30)))
    history.see(make.pod(1, "Failed", exit_code=143, deleted=make.at(30)), gone=True)
    assert classify(failed, history).kind is Kind.USER_ERROR


def test_a_pod_that_failed_before_it_was_deleted_is_its_own_cause(make, failed):
    history = History()
    history.see(make.pod(0, "Failed", exit_code=2))
    history.see(make.pod(0, "Failed", exit_code=2, deleted=make.at(90)))
    assert classify(failed, history).kind is Kind.USER_ERROR


def test_earlier_starts_of_the_job_say_nothing(make, failed):
    before = make.pod(0, "Failed", exit_code=137, reason="OOMKilled", restart=0)
    assert kind(failed, before, make.pod(0, "Failed", exit_code=2, restart=1)) is Kind.USER_ERROR


def test_a_worker_that_was_replaced_is_not_the_cause(make, failed):
    replaced = make.pod(0, "Failed", exit_code=143, ended=make.at(20), created=make.at(1))
    again = make.pod(0, "Running", name="again", created=make.at(25))
    assert kind(failed, replaced, again, make.pod(1, "Failed", exit_code=2)) is Kind.USER_ERROR


@pytest.mark.parametrize(
    ("reason", "wanted"), [("DeadlineExceeded", Kind.DEADLINE), ("TrainingRuntimeNotSupported", Kind.REFUSED)]
)
def test_what_the_job_itself_says_counts_first(make, reason, wanted):
    job = make.job(conditions=[make.condition("Failed", reason=reason, message="so it is")], activeDeadlineSeconds=9)
    assert kind(job, make.pod(0, "Failed", exit_code=2)) is wanted


def test_without_pods_nothing_is_known_and_it_is_tried_again(make, failed):
    found = classify(failed, History())
    assert found.kind is Kind.UNKNOWN
    assert found.retryable


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_retried_or_not_and_says_what_to_do(make, kind, failed):
    found = classify(failed, History()).model_copy(update={"kind": kind})
    error = found.error("zjob", ["last words"])
    retried = {Kind.LOST_NODE, Kind.PREEMPTED, Kind.PASSING, Kind.DELETED, Kind.UNKNOWN}
    assert error.retryable is (kind in retried)
    assert "\n" not in error.headline
    assert error.hint


@pytest.mark.parametrize(
    ("code", "wanted"),
    [(1, Kind.USER_ERROR), (2, Kind.USER_ERROR), (75, Kind.PASSING), (-9, Kind.OUT_OF_MEMORY), (-15, Kind.LOST_NODE)],
)
def test_torchrun_ends_with_1_and_its_log_says_what_the_worker_ended_with(make, failed, code, wanted):
    found = classify(failed, History.of([make.pod(0, "Failed", exit_code=1)]))
    assert found.refined(TORCHRUN.format(code=code).splitlines()).kind is wanted


def test_the_end_of_the_log_is_the_hint_of_a_users_error(make, failed):
    log = TORCHRUN.format(code=1).splitlines()
    found = classify(failed, History.of([make.pod(0, "Failed", exit_code=1)])).refined(log)
    error = found.error("zjob", log)
    assert error.headline.endswith("RuntimeError: shard 7: checksum differs")
    assert "checksum differs" in error.hint
    assert "FAILED" not in error.hint  # torchrun's own lines hide the cause
