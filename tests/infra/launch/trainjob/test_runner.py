"""What a step promises about its job, against a small API server."""

import logging
import threading

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.jobs import STOP_FIRST

FLOW = {"metadata": {"name": "flow"}, "spec": {}, "status": {"phase": "Running"}}
UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient memory."
IMAGE = {"reason": "ImagePullBackOff", "message": "registry/x@sha256:1: not found"}


def test_a_job_is_made_followed_and_reported(step):
    step.attempt(step.pod(), step.log("one", "two"), step.pod(phase="Succeeded"), step.ends("Complete"))
    report = step.runner().run()
    assert (report.name, report.attempt) == (step.make.name, 1)
    assert step.lines == ["one", "two"]
    assert step.ended == [("1", 1, True)]
    assert step.reserved == [1]
    assert step.jobs_made() == 1
    assert step.server.made("DELETE") == []


def test_pods_are_recorded_as_soon_as_they_have_a_node(step):
    noted = threading.Event()
    step.attempt(step.pod(phase="Pending", node="n"))
    step.server.on("GET", "trainjobs", lambda _: noted.wait(20) and step.ends("Complete")("1"), query="watch")
    step.runner(on_scheduled=noted.set).run()
    assert noted.is_set()


def test_pods_that_cannot_be_recorded_do_not_stop_the_step(step, caplog):
    tried = threading.Event()

    def on_scheduled():
        tried.set()
        raise ConnectionError("the store is away")

    step.attempt(step.pod(node="n"))
    step.server.on("GET", "trainjobs", lambda _: tried.wait(20) and step.ends("Complete")("1"), query="watch")
    assert step.runner(on_scheduled=on_scheduled).run().attempt == 1
    assert "its pods could not be recorded" in caplog.text


def test_a_running_job_is_taken_up(step):
    step.there(attempt=2)
    step.server.on("GET", "trainjobs", lambda _: step.ends("Complete")("2"), query="watch")
    assert step.runner().run().attempt == 2
    assert step.jobs_made() == 0
    assert step.reserved == []


def test_a_job_that_somebody_makes_at_the_same_moment_is_taken_up(step):
    # It is not there when the step looks, and is there when the step makes its own.
    step.server.on("GET", "trainjobs", lambda _: step.there())
    step.server.on("GET", "trainjobs", lambda _: step.ends("Complete")("1"), query="watch")
    assert step.runner().run().attempt == 1
    assert step.jobs_made() == 1
    assert len(step.server.objects) == 1


def test_the_result_of_a_completed_job_is_taken(step):
    step.there(ends="Complete")
    assert step.runner().run().attempt == 1
    assert step.server.made("POST") == step.server.made("DELETE") == []
    assert step.ended == [("1", 0, True)]


def test_a_completed_job_whose_result_is_gone_is_made_anew(step):
    step.there(ends="Complete")
    step.result = False

    def works(attempt):
        step.result = True

    step.attempt(works, step.ends("Complete"))
    assert step.runner().run().attempt == 2


def test_a_job_that_never_leaves_a_result_is_not_made_for_ever(step):
    step.result = False
    for _ in range(5):
        step.attempt(step.ends("Complete"))
    with pytest.raises(ZoetropeError, match="left no result"):
        step.runner(max_restarts=1).run()
    assert step.jobs_made() == 2


@pytest.mark.parametrize("exit_code", [75, 143])
def test_a_failure_that_passes_makes_the_job_anew(step, exit_code):
    step.attempt(step.pod(phase="Failed", exit_code=exit_code), step.ends("Failed", "FailedJobs"))
    step.attempt(step.ends("Complete"))
    assert step.runner().run().attempt == 2
    assert step.server.made("DELETE") == [step.make.name]
    assert step.reserved == [1, 2]
    # Told before it was deleted.
    assert step.ended[0] == ("1", 1, True)


def test_a_new_attempt_waits_until_the_earlier_one_is_gone(step):
    step.server.keep_deleted = True
    step.attempt(step.pod(phase="Failed", exit_code=75), step.ends("Failed"))

    def gone(_):
        assert step.jobs_made() == 1
        step.server.remove("trainjobs", step.make.name)

    watched = lambda _: step.server.on("GET", "trainjobs", gone, query="watch")  # noqa: E731
    step.server.on("DELETE", "trainjobs", watched)
    step.attempt(step.ends("Complete"))
    assert step.runner().run().attempt == 2
    assert step.server.objects["trainjobs", step.make.name]["metadata"]["annotations"]["zoetrope/restarts"] == "1"


def test_nothing_goes_on_watching_after_the_end(step):
    step.server.put("workflows", FLOW)
    before = set(threading.enumerate())
    step.attempt(step.pod(), step.ends("Complete"))
    step.runner(workflow="flow").run()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith(("watch", "log of")):
            thread.join(10)
            assert not thread.is_alive()


def test_a_failure_that_passes_again_and_again_is_retryable(step):
    for _ in range(5):
        step.attempt(step.pod(phase="Failed", exit_code=75), step.ends("Failed"))
    with pytest.raises(ZoetropeError, match="exit status 75") as caught:
        step.runner(max_restarts=2).run()
    assert caught.value.retryable
    assert step.jobs_made() == 3


def test_a_users_error_stops_and_shows_the_end_of_the_log(step):
    step.attempt(
        step.pod(),
        step.pod(1),
        step.log("reading", "ValueError: shard 7: checksum differs"),
        step.pod(phase="Failed", exit_code=1),
        step.ends("Failed"),
    )
    with pytest.raises(ZoetropeError, match=r"user error: .*ValueError: shard 7: checksum differs") as caught:
        step.runner().run()
    assert "reading" in caught.value.hint
    assert not caught.value.retryable
    # It stays for people to look at, and for the next launcher to know.
    assert step.server.made("DELETE") == []
    assert step.ended == [("1", 2, True)]


def test_the_log_of_the_node_that_failed_is_shown(step):
    step.attempt(
        step.pod(), step.pod(1), step.log("from 0"), step.log("from 1", index=1),
        step.pod(1, "Failed", exit_code=2), step.ends("Failed"),
    )  # fmt: skip
    with pytest.raises(ZoetropeError, match="pod-1-1 failed with exit status 2") as caught:
        step.runner().run()
    assert "from 1" in caught.value.hint


def test_out_of_memory_is_said_and_not_repeated_by_the_next_launcher(step):
    step.attempt(step.pod(phase="Failed", exit_code=137, reason="OOMKilled"), step.ends("Failed"))
    for _ in range(2):
        with pytest.raises(ZoetropeError, match="out of memory") as caught:
            step.runner().run()
        assert not caught.value.retryable
    assert step.jobs_made() == 1


def test_a_person_who_asks_again_gets_a_new_job_after_any_failure(step):
    step.attempt(step.pod(phase="Failed", exit_code=2), step.ends("Failed"))
    with pytest.raises(ZoetropeError):
        step.runner().run()
    step.attempt(step.ends("Complete"))
    assert step.runner(force_new=True).run().attempt == 2


def test_the_first_attempt_goes_on_counting_where_the_ledger_says_so(step):
    step.attempt(step.pod(phase="Failed", exit_code=75), step.ends("Failed"))
    step.attempt(step.ends("Complete"))
    # Restarts are counted from here, whatever the number of the attempt.
    assert step.runner(first_attempt=lambda: 5, max_restarts=1).run().attempt == 6


def test_a_refused_reservation_makes_nothing(step):
    def refuse(attempt):
        raise ZoetropeError("budget: too small")

    with pytest.raises(ZoetropeError, match="budget"):
        step.runner(reserve=refuse).run()
    assert step.server.made("POST") == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "zoetrope did not create"),
        ({"app.kubernetes.io/managed-by": "torchx"}, "zoetrope did not create"),
        (
            {"app.kubernetes.io/managed-by": "zoetrope", "zoetrope/run": "other", "zoetrope/step": "stage_1"},
            "run other",
        ),
        ({"app.kubernetes.io/managed-by": "zoetrope", "zoetrope/run": "run-1", "zoetrope/step": "x"}, "step x"),
    ],
)
@pytest.mark.parametrize("ends", ["Complete", ""])
def test_a_job_of_somebody_else_is_refused_and_left_alone(step, labels, message, ends):
    job = step.make.job(conditions=[step.make.condition(ends)] if ends else [])
    job["metadata"]["labels"] = labels
    step.server.put("trainjobs", job)
    with pytest.raises(ZoetropeError, match=message) as caught:
        step.runner().run()
    assert caught.value.exit_code == 2
    assert {method for method, _, _ in step.server.requests} == {"GET"}


@pytest.mark.parametrize("ends", ["Complete", "Failed"])
def test_a_finished_job_that_computed_something_else_is_replaced(step, ends):
    step.there(ends=ends, digest="other", attempt=3)
    step.attempt(step.ends("Complete"))
    assert step.runner().run().attempt == 4
    assert step.ended == [("3", 0, True), ("4", 0, True)]


def test_a_running_job_that_computes_something_else_is_waited_for(step):
    step.there(digest="other")
    with pytest.raises(ZoetropeError, match="another configuration or other inputs") as caught:
        step.runner().run()
    assert caught.value.retryable
    assert step.server.made("DELETE") == []


def test_a_job_on_its_way_out_is_waited_for(step):
    job = step.make.job(attempt=1)
    job["metadata"]["deletionTimestamp"] = step.make.at(9)
    step.server.put("trainjobs", job)
    step.server.on("GET", "trainjobs", lambda name: step.server.remove("trainjobs", step.make.name), query="watch")
    step.attempt(step.ends("Complete"))
    assert step.runner().run().attempt == 2


def test_a_job_that_is_deleted_under_us_is_a_retryable_error(step):
    step.attempt(step.pod())
    step.server.on("GET", "log", lambda _: step.server.remove("trainjobs", step.make.name), query="follow")
    with pytest.raises(ZoetropeError, match="deleted from outside") as caught:
        step.runner().run()
    assert caught.value.retryable
    assert step.ended == [("1", 1, False)]


def test_a_job_that_is_deleted_under_us_is_stopped_before_it_goes(step):
    step.attempt(step.pod())
    step.server.on("GET", "log", lambda _: step.cluster.delete("trainjobs", step.make.name), query="follow")
    body = step.body

    def held(attempt, owner):
        job = body(attempt, owner)
        job["metadata"]["finalizers"] = [STOP_FIRST]
        return job

    with pytest.raises(ZoetropeError, match="deleted from outside"):
        step.runner(make_body=held).run()
    assert step.ended == [("1", 1, True)]
    assert step.cluster.get("trainjobs", step.make.name) is None


@pytest.mark.parametrize("kind", ["unschedulable", "image"])
def test_pods_that_cannot_start_end_the_step_and_the_job(step, kind):
    condition = step.make.condition("PodScheduled", "False", "Unschedulable", UNSCHEDULABLE)
    pod = step.pod(phase="Pending", **({"conditions": [condition]} if kind == "unschedulable" else {"waiting": IMAGE}))
    step.attempt(pod)
    with pytest.raises(ZoetropeError, match=r"Insufficient memory|not found") as caught:
        step.runner(schedule_timeout=0).run()
    assert not caught.value.retryable
    assert step.server.made("DELETE") == [step.make.name]
    assert step.ended == [("1", 1, True)]


def test_a_pod_that_is_replaced_is_followed(step):
    def replaced(_):
        step.server.write("pod-1-0", "last of the first")
        step.server.remove("pods", "pod-1-0")
        step.server.put("pods", step.make.pod(0, "Succeeded", restart=1, name="second", uid=None))
        step.server.write("second", "of the second")
        step.ends("Complete")("1")

    step.attempt(step.pod(), step.log("first"))
    step.server.on("GET", "log", replaced, query="follow")
    step.runner().run()
    assert step.lines == ["first", "last of the first", "of the second"]
    assert step.ended == [("1", 2, True)]


def test_an_api_server_that_goes_away_is_survived(step, caplog):
    class Back(logging.Handler):
        def emit(self, record):
            if "tried again" in record.getMessage() and step.server._http is None:
                step.log("while away")("1")
                step.pod(phase="Succeeded")("1")
                step.ends("Complete")("1")
                step.server.start()

    handler = Back()
    logging.getLogger("zoetrope.infra.kubernetes").addHandler(handler)
    try:
        step.attempt(step.pod(), step.log("before"))
        step.server.on("GET", "log", lambda _: step.server.stop(), query="follow")
        step.runner().run()
    finally:
        logging.getLogger("zoetrope.infra.kubernetes").removeHandler(handler)
    assert step.lines == ["before", "while away"]
    assert step.jobs_made() == 1
    assert "tried again" in caplog.text


def test_an_api_server_that_stays_away_leaves_the_job_to_the_next(step):
    step.cluster = step.server.client(retry_seconds=0.2)
    step.attempt(step.pod())
    step.server.on("GET", "log", lambda _: step.server.stop(), query="follow")
    with pytest.raises(ZoetropeError, match="does not answer") as caught:
        step.runner().run()
    assert caught.value.retryable
    assert ("trainjobs", step.make.name) in step.server.objects


def test_the_workflow_owns_the_job(step):
    flow = step.server.put("workflows", FLOW)
    step.attempt(step.ends("Complete"))
    step.runner(workflow="flow").run()
    (owner,) = step.server.objects["trainjobs", step.make.name]["metadata"]["ownerReferences"]
    assert (owner["name"], owner["uid"]) == ("flow", flow["metadata"]["uid"])
