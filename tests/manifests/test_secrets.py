"""No secret, token or moving tag in what is committed for a cluster: searched, file by file."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("manifests", "pipelines/compiled") for path in (ROOT / folder).rglob("*.yaml"))
SUSPICIOUS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "AWS key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "JSON web token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    "token of a known kind": re.compile(r"\b(hf_|ghp_|github_pat_|glpat-|xox[bp]-|dckr_pat_)\w{10,}"),
    "password in an address": re.compile(r"://[^/\s:@$]+:[^/\s:@$]+@"),
    "moving tag": re.compile(r":latest\b"),
}
SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL)(?!.*(_PATH|_FILE)$)")


def findings(text):
    yield from (what for what, pattern in SUSPICIOUS.items() if pattern.search(text))
    for document in yaml.safe_load_all(text):
        yield from _literals(document)


def _literals(node):
    """Secrets as objects, and variables whose name says secret that carry a value instead of a reference."""
    if isinstance(node, dict):
        if node.get("kind") == "Secret" and ("data" in node or "stringData" in node):
            yield "Secret"
        if SECRET_NAME.search(str(node.get("name", ""))) and node.get("value"):
            yield f"value of {node['name']}"
        for value in node.values():
            yield from _literals(value)
    elif isinstance(node, list):
        for value in node:
            yield from _literals(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_no_secret(path):
    assert list(findings(path.read_text())) == []


def test_there_is_something_to_search():
    assert {path.parts[len(ROOT.parts)] for path in FILES} == {"manifests", "pipelines"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("key: AKIAABCDEFGHIJKLMNOP", "AWS key"),
        ("image: postgres:latest", "moving tag"),
        ("uri: postgresql://mlflow:hunter2@db:5432/mlflow", "password in an address"),
        ("env: [{name: POSTGRES_PASSWORD, value: hunter2}]", "value of POSTGRES_PASSWORD"),
        ("{kind: Secret, data: {a: aGk=}}", "Secret"),
        ("token: hf_abcdefghijklmnop", "token of a known kind"),
    ],
)
def test_a_secret_would_be_found(text, found):
    assert found in list(findings(text))


def test_references_and_paths_are_no_secrets():
    assert not list(findings("env: [{name: X_TOKEN_PATH, value: /run/token}, {name: PASSWORD, valueFrom: {}}]"))
