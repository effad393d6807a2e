"""The manifests as `kubectl kustomize` renders them, and the questions that the tests ask of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
OVERLAYS = ("dev", "prod", "profile")
MISSING = (
    "manifests not checked: install kubectl 1.27 or newer (https://kubernetes.io/docs/tasks/tools/) and put it on PATH"
)
Document = dict[str, Any]


@dataclass(frozen=True)
class Installation:
    """What an overlay puts into the cluster."""

    name: str
    documents: tuple[Document, ...]

    def of(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, name: str) -> Document:
        (found,) = [document for document in self.of(kind) if document["metadata"]["name"] == name]
        return found

    @property
    def namespace(self) -> str:
        (namespace,) = {document["metadata"].get("namespace") for document in self.documents}
        return str(namespace)

    def pods(self) -> Iterator[tuple[str, Document]]:
        """(whose, pod template) of everything that makes pods."""
        for document in self.documents:
            for template in _templates(document["spec"]) if "spec" in document else ():
                yield f"{document['kind']}/{document['metadata']['name']}", template

    def containers(self) -> Iterator[tuple[str, Document]]:
        for owner, template in self.pods():
            for container in (*template["spec"].get("initContainers", ()), *template["spec"]["containers"]):
                yield f"{owner}:{container['name']}", container


def _templates(node: Any) -> Iterator[Document]:
    """Every mapping that is a pod template, at any depth (a TrainingRuntime nests three)."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield node
        else:
            for value in node.values():
                yield from _templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from _templates(value)


@cache
def _usable_kubectl() -> str:
    """Path of a kubectl that is new enough; empty if there is none."""
    path = shutil.which("kubectl")
    if not path:
        return ""
    answer = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
    if answer.returncode:
        return ""
    version = json.loads(answer.stdout)["clientVersion"]
    return path if (int(version["major"]), int(version["minor"].rstrip("+"))) >= (1, 27) else ""


@cache
def _render(folder: Path) -> tuple[Document, ...]:
    answer = subprocess.run([_usable_kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{folder.relative_to(MANIFESTS.parent)}: {answer.stderr.strip()[:2000]}"
    return tuple(yaml.safe_load_all(answer.stdout))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any(MISSING in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.write_line(MISSING)


@pytest.fixture(scope="session")
def render() -> Callable[[str], tuple[Document, ...]]:
    """Renders a folder of manifests/. Without kubectl the test is skipped, or fails where it must not be missing."""
    if not _usable_kubectl():
        if os.environ.get("ZOETROPE_REQUIRE_KUBECTL"):
            pytest.fail(MISSING, pytrace=False)
        pytest.skip(MISSING)
    return lambda folder: _render(MANIFESTS / folder)


@pytest.fixture(scope="session", params=OVERLAYS)
def installation(request: pytest.FixtureRequest, render: Callable[[str], tuple[Document, ...]]) -> Installation:
    return Installation(request.param, render(f"overlays/{request.param}"))


@pytest.fixture(scope="session")
def dev(render: Callable[[str], tuple[Document, ...]]) -> Installation:
    return Installation("dev", render("overlays/dev"))


@pytest.fixture(scope="session")
def profile(render: Callable[[str], tuple[Document, ...]]) -> Installation:
    return Installation("profile", render("overlays/profile"))
