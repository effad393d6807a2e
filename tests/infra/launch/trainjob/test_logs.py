"""Lines of a log come once, however often the connection breaks."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zoetrope.infra.kubernetes import Stop
from zoetrope.infra.launch.trainjob.logs import LogPosition, NodeLog, log_tail, replica_lines

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def stamped(milliseconds, text):
    return f"{(BEGIN + timedelta(milliseconds=milliseconds)).isoformat().replace('+00:00', 'Z')} {text}".encode()


@st.composite
def broken_logs(draw):
    """A log whose times are a little in disorder, and after how many lines each connection breaks."""
    steps = draw(st.lists(st.integers(0, 1500), min_size=1, max_size=30))
    time, lines = 0, []
    for step in steps:
        time += step
        lines.append(stamped(max(0, time - draw(st.integers(0, 900))), draw(st.sampled_from("ab"))))
    return lines, draw(st.lists(st.integers(0, len(lines)), max_size=6))


@given(broken_logs())
def test_no_line_is_doubled_or_lost(case):
    lines, breaks = case
    position, texts = LogPosition(), []
    for end in [*sorted(breaks), len(lines)]:
        since = position.connect()
        begin = datetime.fromisoformat(since) if since else BEGIN
        served = [line for line in lines[:end] if datetime.fromisoformat(line.split()[0].decode()) >= begin]
        texts += [text for line in served if (text := position.text(line)) is not None]
    assert texts == [line.split()[1].decode() for line in lines]


def test_a_line_without_a_time_is_shown_as_it_is():
    assert LogPosition().text(b"unable to retrieve container logs") == "unable to retrieve container logs"


class Follower:
    """A NodeLog and what it wrote."""

    def __init__(self, server, monkeypatch):
        monkeypatch.setattr("zoetrope.infra.launch.trainjob.logs.RECONNECT_SECONDS", 0.01)
        self.lines, self.stop = [], Stop()
        self.log = NodeLog(server.client(), self.lines.append, self.stop)

    def end(self):
        self.log.finish(30)
        self.stop.set()
        return self.lines


def test_a_broken_connection_is_taken_up_again(api_server, make, monkeypatch):
    follower = Follower(api_server, monkeypatch)
    pod = api_server.put("pods", make.pod(uid=None))
    name = pod["metadata"]["name"]
    api_server.write(name, "one", "two")

    def second(_):
        api_server.write(name, "four")
        follower.log.see(api_server.put("pods", make.pod(0, "Succeeded", uid=None)))

    def first(_):
        api_server.write(name, "three")
        api_server.on("GET", "log", second, query="follow")
        api_server.cut()

    api_server.on("GET", "log", first, query="follow")
    follower.log.see(pod)
    assert follower.end() == ["one", "two", "three", "four"]


def test_what_is_left_of_an_ended_pod_is_read_again_where_the_connection_breaks(api_server, make, monkeypatch):
    follower = Follower(api_server, monkeypatch)
    pod = api_server.put("pods", make.pod(0, "Succeeded", uid=None))
    api_server.write(pod["metadata"]["name"], "one", "two")
    api_server.on("GET", "log", lambda _: api_server.cut())
    follower.log.see(pod)
    assert follower.end() == ["one", "two"]


def test_a_pod_that_replaces_another_is_followed_next(api_server, make, monkeypatch):
    follower = Follower(api_server, monkeypatch)
    for restart, text in ((0, "before"), (1, "after")):
        pod = api_server.put("pods", make.pod(0, "Succeeded", restart=restart, uid=None))
        api_server.write(pod["metadata"]["name"], text)
        follower.log.see(pod)
    follower.log.see(make.pod(1, "Running"))
    assert follower.end() == ["before", "after"]
    assert list(follower.log.tail) == ["after"]


def test_a_pod_that_is_gone_does_not_hold_up_the_next(api_server, make, monkeypatch):
    follower = Follower(api_server, monkeypatch)
    follower.log.see(make.pod(0, "Running", name="gone"))
    pod = api_server.put("pods", make.pod(0, "Succeeded", restart=1, uid=None))
    api_server.write(pod["metadata"]["name"], "here")
    follower.log.see(pod)
    assert follower.end() == ["here"]


def test_without_the_right_to_read_logs_the_job_goes_on(api_server, make, monkeypatch, caplog):
    follower = Follower(api_server, monkeypatch)
    api_server.refusals["GET", "pods"] = (403, {"message": "pods/log is forbidden"})
    follower.log.see(make.pod())
    assert follower.end() == []
    assert "not shown" in caplog.text


def test_the_tail_of_a_log(api_server, make):
    pod = api_server.put("pods", make.pod(uid=None))
    api_server.write(pod["metadata"]["name"], *"abcd")
    assert log_tail(api_server.client(), pod["metadata"]["name"], 2) == ["c", "d"]
    assert log_tail(api_server.client(), "gone") == []


def test_a_person_reads_one_node_until_the_job_ends(api_server, make, monkeypatch):
    monkeypatch.setattr("zoetrope.infra.launch.trainjob.logs.POLL_SECONDS", 0.01)
    api_server.put("trainjobs", make.job())
    api_server.put("pods", make.pod(0, uid=None))
    name = api_server.put("pods", make.pod(1, uid=None))["metadata"]["name"]
    api_server.write(name, "first")

    def end(_):
        api_server.write(name, "last")
        api_server.put("pods", make.pod(1, "Succeeded", uid=None))
        api_server.condition(make.name, "Complete")

    api_server.on("GET", "log", end, query="follow")
    assert list(replica_lines(api_server.client(), make.name, 1, follow=True, stop=Stop())) == ["first", "last"]
    assert list(replica_lines(api_server.client(), make.name, 1, stop=Stop())) == ["first", "last"]
