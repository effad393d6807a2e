"""What the watches saw becomes queue time, news and the word that a job is stuck."""

import pytest

from zoetrope.infra.launch.trainjob.failure import Kind
from zoetrope.infra.launch.trainjob.pods import seconds
from zoetrope.infra.launch.trainjob.state import JobState, belongs

TIMEOUT = 100.0
IMAGE = {"reason": "ErrImagePull", "message": "registry/x@sha256:1: not found"}


@pytest.fixture
def start(make):
    return seconds(make.at(0))


def event(thing, kind="MODIFIED"):
    return {"type": kind, "object": thing}


def job(make, **fields):
    made = make.job(**fields)
    made["metadata"]["uid"] = "u"
    return made


def unschedulable(make, since=0, **fields):
    message = "0/1 nodes are available: 1 Insufficient memory."
    condition = make.condition("PodScheduled", "False", "Unschedulable", message, make.at(since))
    return make.pod(phase="Pending", conditions=[condition], **fields)


def test_time_in_the_queue_is_counted_apart(make, start):
    state = JobState(job(make, suspend=True), TIMEOUT)
    assert state.queued_seconds(start + 40) == 40
    resumed = make.condition("Suspended", "False", "Resumed", at=make.at(50))
    state.see_job(event(job(make, suspend=False, conditions=[resumed])), start + 51)
    assert state.queued_seconds(start + 90) == 50
    again = make.condition("Suspended", "True", "Suspended", at=make.at(100))
    state.see_job(event(job(make, suspend=True, conditions=[again])), start + 101)
    assert state.queued_seconds(start + 130) == 80


def test_who_takes_a_job_up_knows_how_long_it_had_queued(make, start):
    resumed = make.condition("Suspended", "False", "Resumed", at=make.at(50))
    assert JobState(job(make, conditions=[resumed]), TIMEOUT).queued_seconds(start + 500) == 50


def test_time_that_it_ran_is_from_its_first_container_to_its_end(make, start):
    state = JobState(job(make), TIMEOUT)
    state.see_pod(event(make.pod(started=make.at(10))))
    state.see_pod(event(make.pod(restart=1, started=make.at(40))))
    assert state.running_seconds(start + 30) == 20
    state.see_job(event(job(make, conditions=[make.condition("Complete", at=make.at(70))])), start + 71)
    assert state.running_seconds(start + 500) == 60


@pytest.mark.parametrize(
    ("pod", "kind"),
    [
        (unschedulable, Kind.UNSCHEDULABLE),
        (lambda make: make.pod(phase="Pending", waiting=IMAGE), Kind.IMAGE),
        (lambda make: make.pod(phase="Pending", waiting={"reason": "CreateContainerConfigError"}), Kind.START),
    ],
)
def test_pods_that_cannot_start_are_reported_at_once_and_fail_after_a_while(make, start, pod, kind):
    state = JobState(job(make), TIMEOUT)
    state.see_pod(event(pod(make)))
    assert state.stuck(start) is None
    assert "does not start" in state.news(start)
    assert state.news(start + 10) == ""
    assert "does not start" in state.news(start + 400)  # said again
    found = state.stuck(start + TIMEOUT)
    assert found.kind is kind
    assert not found.retryable


def test_a_name_that_is_no_image_is_not_waited_for(make, start):
    state = JobState(job(make), TIMEOUT)
    state.see_pod(event(make.pod(phase="Pending", waiting={"reason": "InvalidImageName", "message": "X:::"})))
    assert state.stuck(start).kind is Kind.IMAGE


def test_a_new_launcher_does_not_start_the_clock_anew(make, start):
    state = JobState(job(make), TIMEOUT)
    state.see_pod(event(unschedulable(make, since=0)))
    assert state.stuck(start + TIMEOUT + 1).kind is Kind.UNSCHEDULABLE


def test_the_clock_stops_when_the_pod_starts(make, start):
    state = JobState(job(make), TIMEOUT)
    state.see_pod(event(make.pod(phase="Pending", waiting=IMAGE)))
    assert state.stuck(start) is None
    state.see_pod(event(make.pod()))
    assert state.stuck(start + TIMEOUT + 1) is None
    state.see_pod(event(make.pod(phase="Pending", waiting=IMAGE)))
    assert state.stuck(start + TIMEOUT + 2) is None


def test_a_queue_is_not_an_obstacle(make, start):
    waiting = job(make, suspend=True)
    waiting["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    state = JobState(waiting, TIMEOUT)
    assert state.stuck(start + 10 * TIMEOUT) is None
    assert state.news(start + 30) == "waits in queue team-a (for 30 s)"


def test_pods_that_are_never_made_are_explained_by_events(make, start):
    state = JobState(job(make), TIMEOUT)
    assert state.stuck(start + 90) is None
    state.see_warnings([{"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota: zoetrope"}])
    assert state.stuck(start + 90) is None
    assert "exceeded quota" in state.news(start + 90)
    assert "exceeded quota" in state.stuck(start + TIMEOUT).message


@pytest.mark.parametrize("last", ["DELETED", "other"])
def test_a_job_that_is_gone_or_another_is_deleted(make, start, last):
    state = JobState(job(make), TIMEOUT)
    other = job(make)
    other["metadata"]["uid"] = "other" if last == "other" else "u"
    state.see_job(event(other, "DELETED" if last == "DELETED" else "MODIFIED"), start)
    assert state.deleted


def test_a_job_on_its_way_out_is_deleted_unless_it_had_ended(make, start):
    for conditions, deleted in (([], True), ([make.condition("Complete")], False)):
        going = job(make, conditions=conditions)
        going["metadata"]["deletionTimestamp"] = make.at(5)
        state = JobState(job(make), TIMEOUT)
        state.see_job(event(going), start)
        assert state.deleted is deleted


def test_pods_of_an_earlier_job_of_the_same_name_are_others(make):
    mine = job(make, attempt=2, created=make.at(100))
    assert belongs(make.pod(attempt="2", created=make.at(101)), mine)
    assert not belongs(make.pod(attempt="1", created=make.at(101)), mine)
    assert not belongs(make.pod(attempt="2", created=make.at(99)), mine)
