"""Data gates: green, red with examples, and pages on which text of a table is nothing but text."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas
import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.quality import run_gate
from zoetrope.infra.store import open_store
from zoetrope.infra.store.local import LocalStore

USABLE = {"type": "comparison", "column": {"name": "status"}, "operator": "==", "parameter": "usable"}
FRAME = pandas.DataFrame(
    {
        "name": ["a", "b", "c", "d", "e"],
        "status": ["usable", "usable", "rejected", "usable", "usable"],
        "score": [0.5, 7.0, 9.0, None, 8.0],
        "code": ["x1", "x1", "y", "x2", "x3"],
    }
)


def suite(folder: Path, *expectations: tuple[str, dict[str, Any]]) -> Path:
    path = folder / "suite.json"
    path.write_text(
        json.dumps(
            {"name": "things", "expectations": [{"type": kind, "kwargs": given} for kind, given in expectations]}
        )
    )
    return path


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    opened = open_store(tmp_path / "store")
    assert isinstance(opened, LocalStore)
    return opened


def test_a_green_gate(tmp_path: Path, store: LocalStore) -> None:
    path = suite(tmp_path, ("expect_column_values_to_not_be_null", {"column": "name"}))
    result = run_gate("things", FRAME, path, "things/1", store)
    result.require()
    assert result.success
    assert result.statistics == {"evaluated": 1.0, "successful": 1.0, "unsuccessful": 0.0, "success_percent": 100.0}
    assert json.loads(json.dumps(result.as_dict()))["name"] == "things"
    assert b"things" in store.read(result.docs)


@pytest.mark.parametrize(
    ("kind", "settings", "names", "count"),
    [
        ("expect_column_values_to_be_between", {"column": "score", "max_value": 6}, ["b", "c", "e"], 3),
        (
            "expect_column_values_to_be_between",
            {"column": "score", "max_value": 6, "row_condition": USABLE},
            ["b", "e"],
            2,
        ),
        ("expect_column_values_to_be_between", {"column": "score", "min_value": 0.5, "strict_min": True}, ["a"], 1),
        ("expect_column_values_to_not_be_null", {"column": "score"}, ["d"], 1),
        ("expect_column_values_to_be_unique", {"column": "code"}, ["a", "b"], 2),
        ("expect_column_values_to_be_in_set", {"column": "status", "value_set": ["usable"]}, ["c"], 1),
        ("expect_column_values_to_match_regex", {"column": "code", "regex": "^x"}, ["c"], 1),
        ("expect_column_value_lengths_to_be_between", {"column": "code", "min_value": 2}, ["c"], 1),
        ("expect_compound_columns_to_be_unique", {"column_list": ["code", "status"]}, ["a", "b"], 2),
    ],
)
def test_a_red_gate_names_expectation_column_and_rows(
    kind: str, settings: dict[str, Any], names: list[str], count: int, tmp_path: Path, store: LocalStore
) -> None:
    result = run_gate("things", FRAME, suite(tmp_path, (kind, settings)), "things/1", store)
    [failure] = result.failures
    assert [row["name"] for row in failure["examples"]] == names
    assert failure["unexpected_count"] == count
    with pytest.raises(ZoetropeError, match="'things' is red: 1 of 1") as caught:
        result.require()
    assert kind in caught.value.hint
    assert settings.get("column", "code") in caught.value.hint
    assert f'"name": "{names[0]}"' in caught.value.hint


def test_a_column_that_is_missing_is_a_red_gate_without_a_traceback(tmp_path: Path, store: LocalStore) -> None:
    path = suite(tmp_path, ("expect_column_values_to_be_unique", {"column": "nothing"}))
    result = run_gate("things", FRAME, path, "things/1", store)
    with pytest.raises(ZoetropeError) as caught:
        result.require()
    assert '"nothing" in BatchData does not exist' in caught.value.hint
    assert "Traceback" not in caught.value.hint


def test_too_few_rows(tmp_path: Path, store: LocalStore) -> None:
    path = suite(tmp_path, ("expect_table_row_count_to_be_between", {"min_value": 9}))
    with pytest.raises(ZoetropeError) as caught:
        run_gate("things", FRAME, path, "things/1", store).require()
    assert "of the table" in caught.value.hint
    assert "seen 5" in caught.value.hint


HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)> $name"


def test_text_of_a_table_is_text_on_its_page(tmp_path: Path, store: LocalStore) -> None:
    """As a value that is unexpected, in settings of an expectation, as the name of a column and of a gate."""
    frame = pandas.DataFrame({HOSTILE: ["a", HOSTILE], "other": [HOSTILE, "b"]})
    path = suite(
        tmp_path,
        ("expect_column_values_to_be_in_set", {"column": HOSTILE, "value_set": ["a"]}),
        ("expect_column_values_to_be_in_set", {"column": "other", "value_set": [f"x{HOSTILE}"]}),
        ("expect_column_values_to_match_regex", {"column": "other", "regex": "<u>x"}),
        ("expect_compound_columns_to_be_unique", {"column_list": [HOSTILE, "other"]}),
        ("expect_column_values_to_be_unique", {"column": "<i>missing"}),
    )
    page = store.read(run_gate("things", frame, path, "things/1", store).docs).decode()
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    for raw in ("<script", "<img", "<u>x", "<i>"):
        assert raw not in page
    assert "default-src 'none'" in page


def test_a_page_is_whole_by_itself_and_says_what_failed_and_when(tmp_path: Path, store: LocalStore) -> None:
    path = suite(
        tmp_path,
        ("expect_column_values_to_be_unique", {"column": "code"}),
        ("expect_column_values_to_not_be_null", {"column": "name"}),
    )
    before = datetime.now(UTC).replace(microsecond=0)
    results = [run_gate("things", FRAME, path, prefix, store) for prefix in ("one", "two")]
    page = store.read(results[0].docs).decode()
    said = re.search(r"<dd>(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC</dd>", page)
    assert said is not None
    assert before <= datetime.fromisoformat(said[1]).replace(tzinfo=UTC) <= datetime.now(UTC)
    text = re.sub(r"<[^>]*>", " ", page)
    assert "1 expectations fail" in text
    assert re.search(r"failed\s+values must be unique\.\s+2\s+unexpected values found", text)
    assert re.search(r"passed\s+values must never be null", text)
    assert not re.search(r"(src|href|url|@import)\s*[=(]", page)  # nothing is loaded
    assert "<style>" in page
    # Nothing but the page depends on the time.
    assert {**results[0].as_dict(), "docs": ""} == {**results[1].as_dict(), "docs": ""}
    assert sorted(str(uri).rpartition("/docs/")[2] for uri in store.list("docs/")) == [
        "one/index.html",
        "two/index.html",
    ]


@pytest.mark.parametrize("text", ["", "{}", '{"expectations": []}', '{"expectations": [{"type": "x_quantile_y"}]}'])
def test_a_suite_of_the_wrong_form(text: str, tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(ZoetropeError, match=r"suite suite\.json"):
        run_gate("things", FRAME, tmp_path / "suite.json", "x", store)
