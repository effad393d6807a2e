"""One HEAD request to a registry of the tests' own: with and without a login, and when something is wrong."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images import digest_exists

HELD = "sha256:" + "a" * 64
LOGIN = base64.b64encode(b"somebody:a-pass-word").decode()


class Registry(BaseHTTPRequestHandler):
    """Holds `video/core`; what it wants to see first is set by the test."""

    wants = ""
    realm = ""
    broken = 0

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.broken:
            self._answer(self.broken)
        elif self.wants and given != self.wants:
            kind = "Bearer" if self.wants.startswith("Bearer") else "Basic"
            self._answer(401, {"WWW-Authenticate": f'{kind} realm="{self.realm}",service="registry"'})
        elif "application/vnd.oci.image.manifest.v1+json" not in self.headers.get("Accept", ""):
            self._answer(404)
        else:
            self._answer(200 if self.path == f"/v2/video/core/manifests/{HELD}" else 404)

    def do_GET(self) -> None:
        good = self.headers.get("Authorization", "") == f"Basic {LOGIN}"
        good = good and self.path == "/token?scope=repository%3Avideo%2Fcore%3Apull&service=registry"
        self._answer(200 if good else 403, body=b'{"token": "a-token"}' if good else b"")

    def log_message(self, *_: object) -> None:
        """The tests read no log."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        monkeypatch.setattr(Registry, "realm", f"http://{host}/token")
        yield host
        server.shutdown()


def configuration(folder: Path, host: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": LOGIN}}}))
    return folder


def test_a_digest_is_there_or_not(host: str, tmp_path: Path) -> None:
    assert digest_exists(f"{host}/video/core@{HELD}", configuration=tmp_path)
    assert not digest_exists(f"{host}/video/core@sha256:{'b' * 64}", configuration=tmp_path)


@pytest.mark.parametrize("wants", [f"Basic {LOGIN}", "Bearer a-token"])
def test_a_login_of_docker_is_used(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wants: str) -> None:
    monkeypatch.setattr(Registry, "wants", wants)
    with pytest.raises(ZoetropeError) as caught:
        digest_exists(f"{host}/video/core@{HELD}", configuration=tmp_path)
    assert "refuses to show video/core (HTTP 401)" in caught.value.headline
    assert f"docker login {host}" in caught.value.hint
    assert digest_exists(f"{host}/video/core@{HELD}", configuration=configuration(tmp_path, host))


def test_docker_says_where_its_logins_are(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "wants", f"Basic {LOGIN}")
    monkeypatch.setenv("DOCKER_CONFIG", str(configuration(tmp_path, host)))
    assert digest_exists(f"{host}/video/core@{HELD}")


def test_a_helper_program_keeps_the_login(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "wants", f"Basic {LOGIN}")
    helper = tmp_path / "docker-credential-box"
    helper.write_text('#!/bin/sh\nread key\necho "{\\"Username\\": \\"somebody\\", \\"Secret\\": \\"a-pass-word\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credsStore": "box"}')
    assert digest_exists(f"{host}/video/core@{HELD}", configuration=tmp_path)


@pytest.mark.parametrize("realm", ["http://token.example.org/", "file:///etc/hostname", ""])
def test_no_login_goes_where_others_can_read_it(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, realm: str
) -> None:
    monkeypatch.setattr(Registry, "wants", "Bearer a-token")
    monkeypatch.setattr(Registry, "realm", realm)
    with pytest.raises(ZoetropeError, match="refuses to show"):
        digest_exists(f"{host}/video/core@{HELD}", configuration=configuration(tmp_path, host))


def test_a_registry_in_trouble_may_be_asked_again(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "broken", 503)
    with pytest.raises(ZoetropeError, match="answers HTTP 503") as caught:
        digest_exists(f"{host}/video/core@{HELD}", configuration=tmp_path)
    assert caught.value.exit_code == 75


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="registry localhost:1 does not answer: ") as caught:
        digest_exists(f"localhost:1/video/core@{HELD}", configuration=tmp_path)
    assert caught.value.exit_code == 75


def test_a_tag_is_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="does not name an image by its digest"):
        digest_exists("localhost:1/video/core:1.0", configuration=tmp_path)
