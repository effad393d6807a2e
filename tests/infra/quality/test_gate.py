"""Data gates: green, red with examples, and Data Docs that neither change nor report their readers."""

import json
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


def test_data_docs_are_the_same_every_time_and_report_nobody(tmp_path: Path, store: LocalStore) -> None:
    path = suite(tmp_path, ("expect_column_values_to_be_unique", {"column": "code"}))
    for prefix in ("one", "two"):
        run_gate("things", FRAME, path, prefix, store)
    one, two = (
        {file.relative_to(store.directory / "docs" / prefix): file.read_bytes() for file in files}
        for prefix in ("one", "two")
        for files in [[path for path in (store.directory / "docs" / prefix).rglob("*") if path.is_file()]]
    )
    assert one == two
    pages = [data.decode() for name, data in one.items() if name.suffix == ".html"]
    assert len(pages) == 3
    assert not any("great-expectations-web-assets" in page for page in pages)


@pytest.mark.parametrize("text", ["", "{}", '{"expectations": []}', '{"expectations": [{"type": "x_quantile_y"}]}'])
def test_a_suite_of_the_wrong_form(text: str, tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(ZoetropeError, match=r"suite suite\.json"):
        run_gate("things", FRAME, tmp_path / "suite.json", "x", store)
