"""Finds the rows that break an expectation, with pandas: the SUMMARY result names values, not rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

EXAMPLES = 3
LONGEST = 120


def example_rows(expectation: str, settings: dict[str, Any], frame: pandas.DataFrame) -> list[dict[str, Any]]:
    """Up to three rows that break a row-wise expectation: the first column of the table and the judged ones.

    Args:
        expectation: its type, e.g. `expect_column_values_to_be_between`.
        settings: its kwargs.
        frame: the table that was checked.

    Returns:
        JSON-ready rows; empty for expectations on the table as a whole and for columns that are not there.
    """
    columns = [settings["column"]] if settings.get("column") else list(settings.get("column_list", []))
    if not columns or not set(columns) <= set(frame.columns):
        return []
    if settings.get("row_condition"):
        frame = frame[_condition(settings["row_condition"], frame)]
    broken = _broken(expectation, settings, frame, columns)
    if broken is None:
        return []
    shown = list(dict.fromkeys([str(frame.columns[0]), *columns]))
    return [
        {name: _plain(value) for name, value in row.items()}
        for row in frame.loc[broken, shown].head(EXAMPLES).to_dict("records")
    ]


def _broken(
    expectation: str, settings: dict[str, Any], frame: pandas.DataFrame, columns: list[str]
) -> pandas.Series | None:
    """A mask of the rows that break the expectation, None where it is not about rows."""
    values = frame[columns[0]]
    given = values.notna()

    def texts() -> pandas.Series:
        return values.astype(str)

    judge: dict[str, Callable[[], pandas.Series]] = {
        "expect_column_values_to_not_be_null": lambda: ~given,
        "expect_column_values_to_be_unique": lambda: frame.duplicated(columns, keep=False),
        "expect_compound_columns_to_be_unique": lambda: frame.duplicated(columns, keep=False),
        "expect_column_values_to_be_between": lambda: given & _outside(values, settings),
        "expect_column_value_lengths_to_be_between": lambda: given & _outside(texts().str.len(), settings),
        "expect_column_values_to_be_in_set": lambda: given & ~values.isin(settings["value_set"]),
        "expect_column_values_to_match_regex": lambda: given & ~texts().str.contains(settings["regex"], regex=True),
    }
    return judge[expectation]() if expectation in judge else None


def _condition(condition: dict[str, Any], frame: pandas.DataFrame) -> pandas.Series:
    """A mask of the rows that an expectation is about; only comparisons, all rows for other conditions."""
    compare = {
        "==": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    known = condition.get("type") == "comparison" and condition.get("operator") in compare
    if not known:
        return frame.iloc[:, 0].map(lambda _: True)
    mask: pandas.Series = compare[condition["operator"]](frame[condition["column"]["name"]], condition["parameter"])
    return mask


def _outside(values: pandas.Series, settings: dict[str, Any]) -> pandas.Series:
    """A mask of the values outside of the bounds."""
    low, high = settings.get("min_value"), settings.get("max_value")
    outside = values.isna() & False
    if low is not None:
        outside |= (values <= low) if settings.get("strict_min") else (values < low)
    if high is not None:
        outside |= (values >= high) if settings.get("strict_max") else (values > high)
    return outside


def _plain(value: Any) -> Any:
    """A value that JSON can hold, long texts shortened."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and math.isnan(plain):
        return None
    if isinstance(plain, str) and len(plain) > LONGEST:
        return plain[:LONGEST] + "..."
    return plain if isinstance(plain, bool | int | float | str | type(None)) else str(plain)[:LONGEST]
