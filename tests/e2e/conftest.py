"""Keeps what the tests on a cluster have shown: .e2e/results.json over several calls, .e2e/summary.md for people."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(".e2e")
RESULTS = FOLDER / "results.json"
NEEDED = ("ZOETROPE_KFP_HOST", "ZOETROPE_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DATASET_REMOTE")
PARTS = ("workflow-controller", "ml-pipeline", "jobset-controller-manager", "kubeflow-trainer-controller-manager")
PARTS += ("seaweedfs", "zoetrope-mlflow")


@pytest.fixture(scope="session")
def cluster() -> None:
    """The cluster is named, and so is what belongs to it."""
    missing = [name for name in ("KUBECONFIG", *NEEDED) if not os.environ.get(name)]
    if missing:
        pytest.fail(f"not set: {', '.join(missing)}; docs/cluster-runs.md says what they are")


def _ours(nodeid: str) -> bool:
    return "tests/e2e/" in nodeid


@pytest.hookimpl
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remembers how a test ended."""
    if os.environ.get("PYTEST_XDIST_WORKER"):  # the process that started this one writes
        return
    if not _ours(report.nodeid) or (report.when != "call" and report.passed):
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    details = [f"{name}: {value}" for name, value in report.user_properties]
    if report.failed:
        details.append(str(getattr(report.longrepr, "reprcrash", report.longrepr)).splitlines()[-1][:300])
    known[report.nodeid.partition("::")[2]] = {
        "outcome": report.outcome,
        "seconds": round(report.duration, 1),
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "details": details,
    }
    FOLDER.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1))
    (FOLDER / "summary.md").write_text(_summary(known))


def _summary(results: dict[str, dict[str, Any]]) -> str:
    lines = ["# End-to-end tests on a cluster", "", "| part | version |", "|---|---|"]
    lines += [f"| {name} | {version} |" for name, version in _versions().items()]
    lines += ["", "| test | outcome | seconds | when | seen |", "|---|---|---|---|---|"]
    for name, found in results.items():
        seen = "; ".join(found["details"]).replace("|", "/")
        lines.append(f"| {name} | {found['outcome']} | {found['seconds']} | {found['when']} | {seen} |")
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    """Of the parts; empty where the cluster does not say."""
    found = {"commit": _said("git", "describe", "--always", "--dirty")}
    try:
        server = json.loads(_said("kubectl", "version", "-o", "json"))["serverVersion"]
        found["Kubernetes"] = server["gitVersion"]
        deployments = json.loads(_said("kubectl", "get", "deployments", "-A", "-o", "json"))["items"]
    except (ValueError, KeyError):
        return found
    for each in deployments:
        name, image = each["metadata"]["name"], each["spec"]["template"]["spec"]["containers"][0]["image"]
        if name in PARTS:
            found[name] = image.rpartition("/")[2][:60]
    return found


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
