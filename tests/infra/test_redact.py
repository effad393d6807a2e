"""Logins in addresses are shown nowhere."""

import pytest

from zoetrope.infra.doctor.findings import Finding
from zoetrope.infra.errors import ServiceError, ZoetropeError, placed
from zoetrope.infra.links import address, link, safe_link
from zoetrope.infra.redact import redacted

DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:hush@mlflow.example/x?y=1#z", "https://mlflow.example/x?y=1#z"),
        ("https://hush@github.com/a/b.git", "https://github.com/a/b.git"),
        ("postgresql+psycopg2://me:hu@sh@db:5432/mlflow", "postgresql+psycopg2://db:5432/mlflow"),
        ("postgresql://db/mlflow?sslmode=require&password=hush", "postgresql://db/mlflow?sslmode=require&password=***"),
        ("https://s3.example/a?X-Amz-Signature=hush&x=1", "https://s3.example/a?X-Amz-Signature=***&x=1"),
        ("MLflow at http://u:hush@a does not answer, nor http://v:hush@b/c", "MLflow at http://a does not answer, nor http://b/c"),
        ("s3://key:hush@bucket/films", "s3://bucket/films"),
        (f"file:///store/objects/a.json@sha256:{DIGEST}", f"file:///store/objects/a.json@sha256:{DIGEST}"),
        (f"s3://bucket/objects/a.json@sha256:{DIGEST}", f"s3://bucket/objects/a.json@sha256:{DIGEST}"),
        (f"registry.example/train@sha256:{DIGEST}", f"registry.example/train@sha256:{DIGEST}"),
        ("models:/zoetrope-nano@champion", "models:/zoetrope-nano@champion"),
        ("me@example.org wrote: see https://example.org", "me@example.org wrote: see https://example.org"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_login_is_taken_out_and_nothing_else_is_touched(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_errors_findings_and_links_show_none() -> None:
    uri = "https://someone:hush@mlflow.example"
    shown = [
        str(ZoetropeError(f"MLflow at {uri} refuses", f"open {uri}")), repr(ServiceError(uri, uri, status=404)),
        repr(Finding("mlflow", "problem", f"{uri} is away", uri)), address("MLflow", uri), link("MLflow", uri),
        safe_link(uri),
    ]  # fmt: skip
    assert not [text for text in shown if "hush" in text or "mlflow.example" not in text]


def test_an_error_carries_its_status() -> None:
    assert ServiceError("x", status=404).not_found
    assert ServiceError("x", status=409).conflict
    assert not ServiceError("it said (404)").not_found


def test_a_step_stands_once_before_its_message() -> None:
    assert placed("curate", "none is kept") == placed("curate", "curate: none is kept") == "curate: none is kept"
