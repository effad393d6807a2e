"""A small Kubeflow Pipelines: the part of its API v2beta1 that KFP's own client is used for, over HTTP."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

IMAGE = f"registry.example/zoetrope-core@sha256:{'a' * 64}"
SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "zoetrope-nano-full", "description": "Raw video to a promoted model."},
    "components": {
        "comp-ingest": {"executorLabel": "exec-ingest"},
        "comp-train-stage": {"executorLabel": "exec-train-stage"},
        "comp-finish": {"executorLabel": "exec-finish"},
        "comp-steps": {
            "dag": {
                "tasks": {
                    "train-stage": {
                        "componentRef": {"name": "comp-train-stage"},
                        "dependentTasks": ["ingest"],
                        "taskInfo": {"name": "stage_1"},
                        "retryPolicy": {"maxRetryCount": 3},
                    },
                    "ingest": {
                        "componentRef": {"name": "comp-ingest"},
                        "taskInfo": {"name": "ingest"},
                        "retryPolicy": {"maxRetryCount": 3},
                    },
                }
            }
        },
    },
    "deploymentSpec": {
        "executors": {
            name: {"container": {"image": IMAGE}} for name in ("exec-ingest", "exec-train-stage", "exec-finish")
        }
    },
    "root": {
        "dag": {
            "tasks": {
                "exit-handler-1": {"componentRef": {"name": "comp-steps"}, "taskInfo": {"name": "steps"}},
                "finish": {
                    "componentRef": {"name": "comp-finish"},
                    "dependentTasks": ["exit-handler-1"],
                    "taskInfo": {"name": "finish"},
                },
            }
        },
        "inputDefinitions": {
            "parameters": {
                "source": {
                    "parameterType": "STRING",
                    "defaultValue": "",
                    "isOptional": True,
                    "description": "where raw video comes from.",
                },
                "overrides": {"parameterType": "STRING", "defaultValue": "", "isOptional": True},
                "budget_usd": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.0, "isOptional": True},
                "promote_when_green": {"parameterType": "BOOLEAN", "defaultValue": True, "isOptional": True},
            }
        },
    },
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.17.0",
}


@dataclass
class FakeKubeflow:
    """What the server holds and how it misbehaves.

    Attributes:
        version: tag that it tells.
        multi_user: whether it is a multi-user one.
        token: bearer token that it wants, empty for none.
        status: answers everything with this status instead, where it is not 0.
        html: answers with a web page, as a gateway that wants a login.
        workflows: run id -> Argo's workflow, as API v1beta1 hands it out; none where a server no longer has that.
        ui: whether a browser finds the UI at the same host, as behind a gateway.
        requests: method and path of all calls.
        rival: another submission creates the same pipeline and experiment just before ours does.
        moves: called before each read of a run; may change it.
    """

    url: str = ""
    version: str = "2.17.0"
    multi_user: bool = False
    token: str = ""
    status: int = 0
    html: bool = False
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    workflows: dict[str, dict[str, Any]] = field(default_factory=dict)
    ui: bool = True
    rival: bool = False
    requests: list[str] = field(default_factory=list)
    moves: Callable[[dict[str, Any]], None] = lambda run: None

    @property
    def created(self) -> list[str]:
        """Paths of all calls that create or change something."""
        return [line for line in self.requests if not line.startswith("GET ")]

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Status and JSON."""
        if path == "/" and self.ui:
            return 200, b"<html>Kubeflow Pipelines</html>"
        old = re.fullmatch(r"/apis/v1beta1/runs/([^/]+)", path)
        if old and old[1] in self.workflows:
            manifest = json.dumps(self.workflows[old[1]])
            return 200, {"run": {"id": old[1]}, "pipeline_runtime": {"workflow_manifest": manifest}}
        path = path.removeprefix("/apis/v2beta1/")
        if path == "healthz":
            return 200, {"commit_sha": "x", "tag_name": self.version, "multi_user": self.multi_user}
        if method == "POST" and path == "pipelines/upload_version":
            return 200, self._upload(query, body)
        if method == "POST" and path in ("pipelines", "experiments", "runs"):
            made = self._create(path, body)
            if self.rival and path != "runs":
                return 409, {"code": 6, "message": f"Already exist error: the name of this {path[:-1]} already exists"}
            return 200, made
        if path in ("pipelines", "experiments", "runs"):
            return 200, self._page(path, list(getattr(self, path).values()), query)
        match = re.fullmatch(r"pipelines/([^/]+)/versions", path)
        if match:
            found = [each for each in self.versions.values() if each["pipeline_id"] == match[1]]
            return 200, self._page("pipeline_versions", found, query)
        match = re.fullmatch(r"pipelines/[^/]+/versions/([^/]+)", path)
        if match:
            return self._one(self.versions, match[1])
        match = re.fullmatch(r"(pipelines|runs)/([^/:]+)(?::(retry|terminate))?", path)
        if match:
            status, found = self._one(getattr(self, match[1]), match[2])
            if match[1] == "runs" and status == 200:
                if match[3]:
                    found["state"] = {"retry": "RUNNING", "terminate": "CANCELING"}[match[3]]
                    return 200, {}
                self.moves(found)
            return status, found
        return 404, {"message": f"no such path {path}"}

    def _one(self, things: Mapping[str, dict[str, Any]], key: str) -> tuple[int, dict[str, Any]]:
        if key not in things:
            return 404, {"code": 5, "message": f"Failed to fetch {key}: ResourceNotFoundError: not found."}
        return 200, things[key]

    def _page(self, name: str, found: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        if "filter" in query:
            wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
            found = [each for each in found if wanted in (each.get("name"), each["display_name"])]
        start = int(query.get("page_token") or 0)
        size = min(int(query.get("page_size") or 10), 2)  # small pages, so that a reader of one page is found out
        more = {"next_page_token": str(start + size)} if start + size < len(found) else {}
        return {name: found[start : start + size]} | more

    def _upload(self, query: Mapping[str, str], spec: Any) -> dict[str, Any]:
        key = f"version-{len(self.versions) + 1}"
        self.versions[key] = {
            "pipeline_id": query["pipelineid"], "pipeline_version_id": key, "name": query["name"],
            "display_name": query["name"], "pipeline_spec": spec, "tags": json.loads(query.get("tags", "{}")),
        }  # fmt: skip
        return self.versions[key]

    def _create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        things: dict[str, dict[str, Any]] = getattr(self, kind)
        one = kind.removesuffix("s")
        key = f"{one}-{len(things) + 1}"
        things[key] = body | {f"{one}_id": key, "created_at": "2026-11-24T10:00:00Z"}
        if kind == "runs":
            things[key]["state"] = "PENDING"
        return things[key]


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubeflow]:
    """A running server."""
    fake = FakeKubeflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def _serve(self, method: str) -> None:
            parts = urlsplit(self.path)
            body = self._body()
            fake.requests.append(f"{method} {parts.path}")
            status, value = self._refusal() or fake.answer(
                method, parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}, body
            )
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(value, bytes) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refusal(self) -> tuple[int, Any] | None:
            if fake.html:
                return 200, b"<html>please log in</html>"
            if fake.status:
                return fake.status, b"" if fake.status == 404 else {"message": "the reason"}
            if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
                return 401, {"message": "token expired"}
            return None

        def _body(self) -> Any:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/"):
                parsed = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + data)
                return next(yaml.safe_load_all(parsed.get_payload()[0].get_payload(decode=True)))
            return json.loads(data) if data else None

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    for name in ("ZOETROPE_KFP_HOST", "KFP_TOKEN", "KFP_COOKIES", "KUBECONFIG", "ZOETROPE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no kubeconfig, no context file of KFP
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `compile_cluster` writes: a small pipeline instead of the real one, which has a test of its own."""
    import zoetrope.pipelines.definition.compile

    spec: dict[str, Any] = json.loads(json.dumps(SPEC))

    def write(pipeline: str, resolved: Any, images: Any, path: Path, commit: str = "") -> None:
        path.write_text(yaml.safe_dump(spec) + "---\nplatforms: {}\n")

    monkeypatch.setattr(zoetrope.pipelines.definition.compile, "compile_cluster", write, raising=False)
    return spec


@dataclass
class Said:
    """What a command did.

    Attributes:
        code: exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def problem(self) -> str:
        """The one line of a user's mistake; anything else on standard error is wrong."""
        first, *rest = self.err.strip().splitlines()
        assert first.startswith("zoetrope: "), self.err
        assert all(line.startswith("  -> ") for line in rest) and len(rest) <= 1, self.err
        assert "Traceback" not in self.err + self.out
        return first.removeprefix("zoetrope: ")


Command = Callable[..., Said]


@pytest.fixture
def zoetrope(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line as its entry point does."""
    from zoetrope.pipelines.cli import common
    from zoetrope.pipelines.cli.main import main

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["zoetrope", *arguments])
        monkeypatch.setattr(common.output, "_file", sys.stdout)
        monkeypatch.setattr(common.errors, "_file", sys.stderr)
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
        said = capsys.readouterr()
        return Said(int(code or 0), said.out, said.err)

    return call


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The lock of images, and which of them the registry has."""
    from zoetrope.infra.images import container_registry, lock

    there = {IMAGE: True}
    monkeypatch.setattr(lock, "read_images", lambda path: lock.ImagesLock(images={"core": IMAGE}))
    monkeypatch.setattr(container_registry, "digest_exists", lambda image: there[image])
    return there
