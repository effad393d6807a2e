"""A run that is terminated takes its job along, whatever the bookkeeping does."""

import threading

import pytest

FLOW = {"metadata": {"name": "flow"}, "spec": {}, "status": {"phase": "Running"}}


@pytest.mark.parametrize("how", ["terminate", "stop", "ended", "deleted"])
def test_terminate_deletes_the_job_at_once(step, how):
    step.server.put("workflows", FLOW)
    step.attempt(step.pod())
    actions = {
        "terminate": lambda _: step.server.change("workflows", "flow", spec={"activeDeadlineSeconds": 0}),
        "stop": lambda _: step.server.change("workflows", "flow", spec={"shutdown": "Terminate"}),
        "ended": lambda _: step.server.change("workflows", "flow", status={"phase": "Failed"}),
        "deleted": lambda _: step.server.remove("workflows", "flow"),
    }
    step.server.on("GET", "log", actions[how], query="follow")
    with pytest.raises(SystemExit) as caught:
        step.runner(workflow="flow").run()
    assert caught.value.code == 143
    assert step.server.made("DELETE") == [step.make.name]
    assert step.ended == [("1", 1, True)]


def test_bookkeeping_that_hangs_does_not_keep_a_terminated_job_alive(step, monkeypatch):
    monkeypatch.setattr("zoetrope.infra.launch.trainjob.runner.FINAL_RECORD_SECONDS", 0.01)
    step.server.put("workflows", FLOW)
    step.attempt(step.pod())
    deleted = threading.Event()
    step.server.on(
        "GET", "log", lambda _: step.server.change("workflows", "flow", spec={"activeDeadlineSeconds": 0}),
        query="follow",
    )  # fmt: skip
    step.server.on("DELETE", "trainjobs", lambda _: deleted.set())
    with pytest.raises(SystemExit):
        step.runner(workflow="flow", on_finished=lambda job, pods: deleted.wait(60)).run()
    assert deleted.is_set()


def test_bookkeeping_that_fails_does_not_fail_the_step(step, caplog):
    def on_finished(job, pods):
        raise OSError("store is away")

    step.attempt(step.ends("Complete"))
    step.runner(on_finished=on_finished).run()
    assert "could not be recorded" in caplog.text


def test_a_run_that_was_terminated_before_makes_nothing_and_stops_what_is_there(step):
    step.server.put("workflows", {**FLOW, "spec": {"activeDeadlineSeconds": 0}})
    step.there()
    with pytest.raises(SystemExit):
        step.runner(workflow="flow").run()
    assert step.server.made("POST") == []
    assert step.server.made("DELETE") == [step.make.name]
