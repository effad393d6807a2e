"""Both stores keep the same promises; S3 is moto's server on the loopback."""

import errno
import logging
import os
import threading
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.infra.store.conftest import s3_settings
from zoetrope.infra.errors import EXIT_RETRYABLE, EXIT_USER_ERROR, ZoetropeError
from zoetrope.infra.store import get_json, local, open_store, put_json, s3
from zoetrope.infra.store.local import LocalStore
from zoetrope.infra.store.s3 import S3Store
from zoetrope.infra.store.s3_client import S3Settings


def test_what_is_put_is_read_listed_fetched_and_deleted(store, tmp_path):
    uri = store.put_bytes("a/one.bin", b"0123456789")
    assert uri == store.uri("a/one.bin")
    assert store.read(uri) == b"0123456789"
    assert store.size(uri) == 10
    assert store.exists(uri)
    (tmp_path / "file").write_bytes(b"from a file")
    other = store.put_file("a/two.bin", tmp_path / "file")
    assert list(store.list("a/")) == [uri, other]
    target = store.fetch(other, tmp_path / "deep/er/copy")
    assert target.read_bytes() == b"from a file"
    store.delete(uri)
    store.delete(uri)
    assert not store.exists(uri)
    assert list(store.list("")) == [other]


def test_a_put_replaces_the_whole_object(store):
    store.put_bytes("x", b"long old content")
    assert store.read(store.put_bytes("x", b"new")) == b"new"


def test_empty_objects(store, tmp_path):
    uri = store.put_bytes("empty", b"")
    assert (store.read(uri), store.size(uri), store.exists(uri)) == (b"", 0, True)
    assert store.fetch(uri, tmp_path / "empty").read_bytes() == b""
    assert store.size(store.put_file("empty2", tmp_path / "empty")) == 0


DATA = bytes(range(256)) * 5


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(DATA) + 10), length=st.none() | st.integers(0, len(DATA) + 10))
@example(start=0, length=0)
@example(start=len(DATA), length=None)
@example(start=len(DATA) + 5, length=3)
@example(start=len(DATA) - 1, length=5)
def test_ranges_are_slices(store, start, length):
    uri = store.uri("range")
    if not store.exists(uri):
        store.put_bytes("range", DATA)
    assert store.read(uri, start, length) == DATA[start:][:length]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("C",)), min_size=1, max_size=30
    )
)
def test_any_name_comes_back(store, name):
    if name.strip(".") == "" or name != name.strip():
        return
    uri = store.put_bytes(f"names/{name}/x", name.encode())
    assert store.read(uri) == name.encode()
    assert uri in list(store.list("names/"))
    store.delete(uri)


def test_a_prefix_is_the_beginning_of_a_key(store):
    uris = {key: store.put_bytes(key, b"") for key in ("run-1/a", "run-10/a", "run-1.txt", "other")}
    assert list(store.list("run-1/")) == [uris["run-1/a"]]
    assert sorted(store.list("run-1")) == sorted([uris["run-1/a"], uris["run-10/a"], uris["run-1.txt"]])
    assert list(store.list("run-2/")) == []
    assert set(store.list("")) == set(uris.values())


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a/../../../etc/passwd"])
def test_no_key_leaves_the_root(store, key):
    for call in (store.uri, lambda key: store.put_bytes(key, b"x")):
        with pytest.raises(ZoetropeError, match="leaves the store"):
            call(key)


def test_no_uri_of_another_place_is_touched(store):
    inside = store.put_bytes("x", b"x")
    for uri in ("file:///etc/passwd", "s3://other/x", inside + "/../../../x", store.root + "2/x", "/etc/passwd"):
        for call in (store.read, store.size, store.exists, store.delete, store.local_path):
            with pytest.raises(ZoetropeError, match=r"outside the store|leaves the store"):
                call(uri)


def test_missing_objects_are_one_clear_error(store, tmp_path):
    uri = store.uri("nothing")
    for call in (
        store.read,
        store.size,
        lambda uri: store.fetch(uri, tmp_path / "t"),
        lambda uri: store.read(uri, 0, 5),
    ):
        with pytest.raises(ZoetropeError, match="nothing: not in the store"):
            call(uri)
    assert not store.exists(uri)
    assert not (tmp_path / "t").exists()


def test_content_addressing_works_on_both(store):
    reference = put_json(store, {"b": 1, "a": [1.5, "ü"]})
    assert put_json(store, {"a": [1.5, "ü"], "b": 1}) == reference
    assert get_json(store, str(reference)) == {"a": [1.5, "ü"], "b": 1}


def test_large_files_go_up_and_come_down_in_parts(s3_store, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)  # S3's smallest
    content = os.urandom(1 << 20) * 11 + b"end"
    (tmp_path / "large").write_bytes(content)
    uri = s3_store.put_file("large", tmp_path / "large")
    assert "-3" in s3_store._client.stat_object(s3_store.bucket, "some/prefix/large").etag
    assert s3_store.read(uri, len(content) - 5) == content[-5:]
    assert s3_store.fetch(uri, tmp_path / "back").read_bytes() == content


def test_the_environment_says_where_s3_is(endpoint, s3_store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ZOETROPE_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    uri = s3_store.put_bytes("x", b"seen")
    assert open_store(s3_store.root).read(uri) == b"seen"
    assert "hush" not in repr(S3Settings())


def test_a_missing_bucket_and_a_bad_endpoint_are_named(endpoint):
    with pytest.raises(ZoetropeError, match="no such bucket"):
        S3Store("s3://no-such-bucket", s3_settings(endpoint)).put_bytes("x", b"")
    for bad in ("minio:9000", "http://", "ftp://x", "http://x/path"):
        with pytest.raises(ZoetropeError, match="not the URL of a server"):
            S3Store("s3://bucket", s3_settings(bad))
    for bad in ("s3://", "s3://UPPER", "https://x"):
        with pytest.raises(ZoetropeError, match="not an S3 location"):
            S3Store(bad, s3_settings(endpoint))


def test_a_server_that_is_not_there_is_retryable(caplog):
    store = S3Store("s3://bucket", s3_settings("http://127.0.0.1:1", attempts=3))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ZoetropeError, match="does not answer after 3 tries") as caught,
    ):
        store.read("s3://bucket/x")
    assert caught.value.exit_code == EXIT_RETRYABLE
    assert [record.message.rpartition("; ")[2] for record in caplog.records] == [
        "try 2 of 3 follows",
        "try 3 of 3 follows",
    ]


@pytest.fixture
def faulty():
    """A server that answers with the given list of (status, headers, body), one after the other."""
    answers, requests = [], []

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            pass

    def application(environ, start):
        requests.append(environ["REQUEST_METHOD"])
        status, headers, body = answers.pop(0)
        start(status, headers)
        return [body]

    server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_passing_faults_are_tried_again_and_logged(faulty, caplog):
    endpoint, answers, requests = faulty
    answers += [
        ("503 Slow Down", [], b""),
        ("200 OK", [("Content-Length", "10")], b"half"),  # breaks off
        ("200 OK", [("Content-Length", "4")], b"good"),
    ]
    store = S3Store("s3://bucket", s3_settings(endpoint))
    with caplog.at_level(logging.WARNING):
        assert store.read("s3://bucket/x") == b"good"
    assert requests == ["GET"] * 3
    assert "HTTP status 503; try 2 of 5 follows" in caplog.text
    assert len(caplog.records) == 2


def test_a_server_that_stays_ill_is_retryable(faulty):
    endpoint, answers, requests = faulty
    answers += [("500 Oh", [("Content-Type", "text/plain")], b"no")] * 3
    store = S3Store("s3://bucket", s3_settings(endpoint, attempts=3))
    with pytest.raises(ZoetropeError, match="does not answer") as caught:
        store.put_bytes("x", b"data")
    assert caught.value.exit_code == EXIT_RETRYABLE
    assert requests == ["PUT"] * 3


def test_a_refusal_is_not_tried_again(faulty):
    endpoint, answers, requests = faulty
    body = b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
    answers.append(("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body))
    with pytest.raises(ZoetropeError, match="refuses: SignatureDoesNotMatch") as caught:
        S3Store("s3://bucket", s3_settings(endpoint)).read("s3://bucket/x")
    assert caught.value.exit_code == EXIT_USER_ERROR
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint
    assert requests == ["GET"]


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())


@pytest.mark.parametrize("call", ["put_bytes", "put_file", "fetch"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, call):
    store = LocalStore(tmp_path / "store")
    uri = store.put_bytes("old", b"old content")
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local.os, "fsync", full)
    before = files_in(tmp_path)
    with pytest.raises(ZoetropeError, match=r"disk full: .* MB needed in .*, .* MB free") as caught:
        {
            "put_bytes": lambda: store.put_bytes("old", b"y" * 3_000_000),
            "put_file": lambda: store.put_file("old", source),
            "fetch": lambda: store.fetch(uri, tmp_path / "copy"),
        }[call]()
    assert caught.value.exit_code == EXIT_RETRYABLE
    assert files_in(tmp_path) == before
    assert store.read(uri) == b"old content"


def test_an_interrupted_put_leaves_nothing(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(local.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.put_bytes("x", b"data")
    assert files_in(tmp_path) == []
    assert list(store.list("")) == []
