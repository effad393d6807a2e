"""A step's job and its key: what counts of the configuration and of what the step reads."""

from typing import Any

import pytest

from zoetrope.infra.steps.job import StepJob

DIGEST, OTHER = "a" * 64, "b" * 64
JOB = StepJob(
    step="curate",
    config={"max_seconds": 8.0, "workers": 2, "filters": {"text": {"block": 8, "threads": 1}}},
    neutral=("workers", "filters.text.threads"),
    operators={"zoetrope.components.curate.cuts": "1" * 16},
    libraries={"av": "18.0.0"},
    content={"source.folder": DIGEST},
)
READ = {"sources": f"objects/aa/x.json@sha256:{DIGEST}", "captions": ""}


def key(job: StepJob = JOB, **inputs: str) -> str:
    parts = job.parts(READ | inputs)
    assert parts is not None
    return parts.digest()


@pytest.mark.parametrize(
    ("config", "same"),
    [
        ({"workers": 7}, True),
        ({"filters": {"text": {"block": 8, "threads": 4}}}, True),
        ({"filters": {"text": {"block": 4, "threads": 1}}}, False),
        ({"max_seconds": 4.0}, False),
    ],
)
def test_neutral_fields_are_in_no_key_at_any_depth(config: dict[str, Any], same: bool) -> None:
    assert (key(JOB.model_copy(update={"config": JOB.config | config})) == key()) == same


def test_of_what_a_step_reads_the_content_counts_and_the_place_does_not() -> None:
    assert key(sources=f"file:///elsewhere/y.json@sha256:{DIGEST}") == key()
    assert key(sources=f"objects/aa/x.json@sha256:{OTHER}") != key()
    assert key(captions=f"objects/bb/c.json@sha256:{OTHER}") != key()


@pytest.mark.parametrize(
    "change",
    [
        {"operators": {"zoetrope.components.curate.cuts": "2" * 16}},
        {"libraries": {"av": "18.0.1"}},
        {"content": {"source.folder": OTHER}},
    ],
)
def test_code_libraries_and_the_users_files_count(change: dict[str, Any]) -> None:
    assert key(JOB.model_copy(update=change)) != key()


def test_a_step_that_always_runs_has_no_key() -> None:
    assert JOB.model_copy(update={"operators": {}}).parts(READ) is None
