"""The checks of this machine, and those that a pod makes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.doctor import LOCAL_CHECKS, examine_here, from_inside
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import open_store


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    findings = [*examine_here(tmp_path / "not" / "there")]
    assert {finding.check for finding in findings} == set(LOCAL_CHECKS)
    assert "python" in {finding.check for finding in findings if finding.status == "ok"}


def test_what_is_missing_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    findings = {(finding.check, finding.detail): finding for finding in examine_here(tmp_path)}
    assert findings["tools", "git is not there"].status == "problem"
    assert findings["tools", "docker is not there"].status == "unknown"
    assert findings["disk", f"0.1 GB free at {tmp_path}"].hint


@pytest.fixture
def tracking() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_pod_tries_store_and_mlflow_and_leaves_nothing(tmp_path: Path, tracking: str) -> None:
    store = open_store(tmp_path)
    findings = [*from_inside(Settings(store=store.root, tracking_uri=tracking))]
    assert [(finding.check, finding.status) for finding in findings] == [("store", "ok"), ("mlflow", "ok")]
    assert list(store.list("doctor/")) == []


def test_a_pod_names_what_it_does_not_reach(tmp_path: Path) -> None:
    settings = Settings(store="", tracking_uri="http://127.0.0.1:1", dataset_remote=f"file://{tmp_path}/nowhere.git")
    findings = {finding.check: finding for finding in from_inside(settings)}
    assert {finding.status for finding in findings.values()} == {"problem"}
    assert "refused" in findings["mlflow"].detail
    assert "there is no such repository" in findings["dataset remote"].detail
    assert all(finding.hint for finding in findings.values())
