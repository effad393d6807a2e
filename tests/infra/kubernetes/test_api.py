"""The Kubernetes client, against a small API server."""

import logging

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes import AlreadyExistsError, Cluster, Stop, StreamBrokenError
from zoetrope.infra.kubernetes.jobs import STOP_FIRST, is_stop_pending

FORBIDDEN = {"message": 'trainjobs is forbidden: User "u" cannot list resource'}
WEBHOOK = {"message": 'admission webhook "validator.trainjob" denied the request: no such runtime'}


def named(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


class WhenSaid(logging.Handler):
    """Does something when a message is logged."""

    def __init__(self, word, do):
        super().__init__()
        self.word, self.do = word, do

    def emit(self, record):
        if self.word in record.getMessage() and self.do:
            do, self.do = self.do, None
            do()


@pytest.fixture
def when_said():
    logger, handlers = logging.getLogger("zoetrope.infra.kubernetes"), []

    def register(word, do):
        handlers.append(WhenSaid(word, do))
        logger.addHandler(handlers[-1])

    yield register
    for handler in handlers:
        logger.removeHandler(handler)


def test_objects_are_made_read_changed_listed_and_deleted(api_server):
    cluster = api_server.client()
    assert cluster.get("trainjobs", "a") is None
    made = cluster.create("trainjobs", named("a", run="1"))
    cluster.create("trainjobs", named("b", run="2"))
    assert cluster.get("trainjobs", "a") == made
    assert cluster.patch("trainjobs", "a", {"spec": {"suspend": True}})["spec"] == {"suspend": True}
    assert [job["metadata"]["name"] for job in cluster.list("trainjobs", {"run": "2"})] == ["b"]
    cluster.delete("trainjobs", "a")
    cluster.delete("trainjobs", "a")
    assert [job["metadata"]["name"] for job in cluster.list("trainjobs")] == ["b"]


def test_a_job_is_deleted_only_when_every_controller_has_seen_that_it_is_suspended(api_server):
    """Else Trainer would recreate it from what it remembers of it, and its pods would run twice."""
    cluster = api_server.client()
    cluster.create("trainjobs", named("a"))
    pods = {"jobset.sigs.k8s.io/jobset-name": "a"}
    api_server.put("pods", {"metadata": {"name": "p", "labels": pods}, "status": {"phase": "Running"}})
    api_server.put("pods", {"metadata": {"name": "q", "labels": pods}, "status": {"phase": "Failed"}})
    api_server.suspended = lambda name: None
    seen = []

    def trainer(name):
        seen.append("Trainer")
        api_server.condition("a", "Suspended")
        api_server.on("GET", "pods", job_controller)

    def job_controller(name):
        seen.append("Job")
        assert not api_server.made("DELETE")
        api_server.change("pods", "p", metadata={"deletionTimestamp": "2026-11-24T12:00:00Z"})

    api_server.on("GET", "trainjobs", trainer)
    cluster.remove_job("a")
    assert (seen, api_server.made("DELETE")) == (["Trainer", "Job"], ["a"])
    cluster.remove_job("a")


def test_a_job_that_somebody_deleted_is_there_until_it_is_stopped(api_server):
    cluster = api_server.client()
    job = named("a")
    job["metadata"]["finalizers"] = [STOP_FIRST, "example.org/theirs"]
    cluster.create("trainjobs", job)
    cluster.delete("trainjobs", "a")
    assert is_stop_pending(cluster.get("trainjobs", "a"))
    cluster.remove_job("a")
    left = cluster.get("trainjobs", "a")
    assert (left["spec"]["suspend"], left["metadata"]["finalizers"]) == (True, ["example.org/theirs"])
    api_server.change("trainjobs", "a", metadata={"finalizers": [STOP_FIRST]})
    cluster.remove_job("a")
    assert cluster.get("trainjobs", "a") is None


def test_a_job_that_no_controller_looks_at_is_deleted_in_the_end(api_server, monkeypatch):
    monkeypatch.setattr("zoetrope.infra.kubernetes.api.SUSPEND_SECONDS", 0.1)
    cluster = api_server.client()
    cluster.create("trainjobs", named("a"))
    api_server.suspended = lambda name: None
    cluster.remove_job("a")
    assert cluster.get("trainjobs", "a") is None


def test_a_dry_run_makes_nothing(api_server):
    cluster = api_server.client()
    cluster.create("trainjobs", named("a"), dry_run=True)
    assert cluster.get("trainjobs", "a") is None


def test_a_taken_name_is_an_error_of_its_own(api_server):
    cluster = api_server.client()
    cluster.create("trainjobs", named("a"))
    with pytest.raises(AlreadyExistsError):
        cluster.create("trainjobs", named("a"))


@pytest.mark.parametrize(
    ("status", "body", "words", "retryable"),
    [
        (401, {"message": "Unauthorized"}, "token has expired", False),
        (403, FORBIDDEN, "not allowed", False),
        (403, WEBHOOK, "no such runtime", False),
        (422, {"message": "spec.trainer: Invalid"}, "spec.trainer: Invalid", False),
    ],
)
def test_refusals_are_one_line(api_server, status, body, words, retryable):
    api_server.refusals["GET", "trainjobs"] = (status, body)
    with pytest.raises(ZoetropeError, match=words) as caught:
        api_server.client().list("trainjobs")
    assert caught.value.retryable is retryable
    assert "\n" not in caught.value.headline
    assert caught.value.hint
    assert len(api_server.requests) == 1


@pytest.mark.parametrize(("kind", "hint"), [("trainjobs", "Kubeflow Trainer"), ("workflows", "Argo")])
def test_a_missing_definition_says_what_to_install(api_server, kind, hint):
    api_server.missing.add(kind)
    cluster = api_server.client()
    for call in (cluster.list, lambda kind: cluster.get(kind, "a"), lambda kind: list(cluster.watch(kind, "a", 1))):
        with pytest.raises(ZoetropeError, match="no such kind") as caught:
            call(kind)
        assert hint in caught.value.hint


def test_an_unknown_host_is_not_tried_for_long(api_server):
    from kubernetes import client

    configuration = client.Configuration()
    configuration.host, configuration.retries = "http://cluster.invalid:1", False
    with pytest.raises(ZoetropeError, match=r"no host of this name") as caught:
        Cluster(client.ApiClient(configuration), "test", 600).list("pods")
    assert not caught.value.retryable


def test_unknown_contexts_and_missing_files_are_one_line(api_server, tmp_path, monkeypatch):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ZoetropeError, match="kubeconfig"):
        Cluster.connect()
    path = api_server.kubeconfig(tmp_path / "config")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(ZoetropeError, match="context 'there'"):
        Cluster.connect(context="there")
    cluster = Cluster.connect()
    assert cluster.namespace == "test"
    assert cluster.list("pods") == []


def test_faults_that_pass_are_repeated_and_said_once(api_server, when_said, caplog):
    cluster = api_server.client()
    api_server.refusals["GET", "pods"] = (503, {"message": "starting"})
    when_said("tried again", api_server.refusals.clear)
    with caplog.at_level(logging.WARNING):
        assert cluster.list("pods") == []
    assert ["tried again" in message for message in caplog.messages] == [True, False]
    assert "answers again" in caplog.messages[-1]


def test_a_server_that_stays_away_is_a_retryable_error(api_server):
    cluster = api_server.client(retry_seconds=0.1)
    api_server.stop()
    with pytest.raises(ZoetropeError, match="does not answer") as caught:
        cluster.list("pods")
    assert caught.value.retryable


def test_a_server_that_has_just_started_may_refuse_everybody_for_a_moment(api_server, when_said):
    cluster = api_server.client()
    cluster.list("pods")
    api_server.refusals["GET", "pods"] = (403, FORBIDDEN)
    api_server.stop()
    when_said("tried again", api_server.start)
    api_server.refusals = Counting(api_server.refusals, 3)
    assert cluster.list("pods") == []


class Counting(dict):
    """Refusals that end after so many."""

    def __init__(self, refusals, left):
        super().__init__(refusals)
        self.left = left

    def __contains__(self, key):
        if super().__contains__(key):
            self.left -= 1
            return self.left >= 0
        return False


def test_a_watch_begins_with_what_is_there_and_goes_on(api_server):
    cluster = api_server.client()
    api_server.put("pods", named("a", job="1"))
    api_server.put("pods", named("other", job="2"))
    api_server.on("GET", "pods", lambda _: api_server.put("pods", named("b", job="1")), query="watch")
    found = []
    for event in cluster.watch("pods", labels={"job": "1"}, timeout=30):
        found.append((event["type"], event["object"]["metadata"]["name"]))
        if len(found) == 2:
            break
    assert found == [("ADDED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_watch_tells_what_happened_while_the_server_was_away(api_server, when_said, forgotten):
    cluster = api_server.client()
    for name in ("a", "b"):
        api_server.put("pods", named(name))

    def outage(_):
        api_server.stop()
        api_server.remove("pods", "a")
        api_server.change("pods", "b", spec={"new": 1})
        if forgotten:
            api_server.compact()

    api_server.on("GET", "pods", outage, query="watch")
    when_said("tried again", api_server.start)
    stop, found = Stop(), []
    for event in cluster.watch("pods", timeout=60, stop=stop):
        found.append((event["type"], event["object"]["metadata"]["name"]))
        if len(found) == 4:
            stop.set()
    assert sorted(found[:2]) == [("ADDED", "a"), ("ADDED", "b")]
    assert found[2:] == [("DELETED", "a"), ("MODIFIED", "b")]


def test_stop_ends_a_silent_watch_from_another_thread(api_server):
    stop = Stop()
    api_server.on("GET", "pods", lambda _: stop.set(), query="watch")
    assert list(api_server.client().watch("pods", timeout=3000, stop=stop)) == []


def test_logs_come_line_by_line(api_server):
    api_server.put("pods", {**named("p"), "status": {"phase": "Succeeded"}})
    api_server.write("p", "one", "two", "drei ü")
    lines = list(api_server.client().log("p", "node", follow=True))
    assert [line.partition(b" ")[2].decode() for line in lines] == ["one", "two", "drei ü"]
    assert list(api_server.client().log("none", "node")) == []


def test_a_log_that_breaks_off_says_so(api_server):
    api_server.put("pods", {**named("p"), "status": {"phase": "Running"}})
    api_server.write("p", "one")
    api_server.on("GET", "log", lambda _: api_server.cut(), query="follow")
    lines = []
    with pytest.raises(StreamBrokenError):
        lines.extend(api_server.client().log("p", "node", follow=True))


def test_events_are_of_one_object_and_in_order(api_server):
    for name, time, thing in (("late", "02", "p"), ("early", "01", "p"), ("other", "03", "q")):
        event = {**named(name), "involvedObject": {"name": thing}, "lastTimestamp": f"2026-01-{time}T00:00:00Z"}
        api_server.put("events", event)
    assert [event["metadata"]["name"] for event in api_server.client().events("p")] == ["early", "late"]


def test_objects_come_page_by_page_and_only_those_with_the_label(api_server):
    for number in range(7):
        api_server.put("workflows", named(f"w{number}", **({"run": f"r{number}"} if number else {})))
    found = api_server.client().each("workflows", {"run": ""}, page=2)
    assert [each["metadata"]["name"] for each in found] == ["w1", "w2", "w3", "w4", "w5", "w6"]
    queries = [query for method, _, query in api_server.requests if method == "GET"]
    assert [(query["labelSelector"], query["limit"]) for query in queries] == [("run", "2")] * 3


def test_a_listing_that_the_server_has_forgotten_begins_anew(api_server):
    for number in range(4):
        api_server.put("workflows", named(f"w{number}"))
    pages = api_server.client().each("workflows", page=2)
    found = [next(pages), next(pages)]
    api_server.compact()
    found += list(pages)
    assert [each["metadata"]["name"] for each in found] == ["w0", "w1", "w0", "w1", "w2", "w3"]


def test_who_may_not_list_is_told_so(api_server):
    api_server.refusals["GET", "workflows"] = 403, FORBIDDEN
    with pytest.raises(ZoetropeError, match="list workflows: not allowed"):
        list(api_server.client().each("workflows", page=2))
