"""Puts a new part into the table of its kind: where the syntax tree says, not where a line happens to look alike."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

BEFORE_STEP = "evaluate"
"""A new step makes videos of videos, which this one reads."""
BEFORE_FILTER = "near_duplicate"
"""The last of the filters: it compares the clips that the others leave."""


class UnknownTableError(Exception):
    """The table does not look as it did when this was written."""


def add_step(text: str, values: Mapping[str, str]) -> str:
    """The step table with the row `values["row"]`."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and _is_name(node.targets[0], "_ROWS") and isinstance(node.value, ast.Tuple):
            for row in node.value.elts:
                first = row.args[0] if isinstance(row, ast.Call) and row.args else None
                if isinstance(first, ast.Constant) and first.value == BEFORE_STEP:
                    return _before_line(text, row.lineno, values["row"])
    raise UnknownTableError(f"there is no row of {BEFORE_STEP!r} in _ROWS")


def add_filter(text: str, values: Mapping[str, str]) -> str:
    """The table of filters with one more field."""
    tree = ast.parse(text)
    fields = [
        node
        for each in tree.body
        if isinstance(each, ast.ClassDef) and each.name == "FilterSettings"
        for node in each.body
        if isinstance(node, ast.AnnAssign)
    ]
    if not fields:
        raise UnknownTableError("there is no class FilterSettings with fields")
    line = f"    {values['name']}: {values['capital']} = {values['capital']}()\n"
    places = [node.lineno for node in fields if _is_name(node.target, BEFORE_FILTER)]
    text = _before_line(text, places[0] if places else (fields[-1].end_lineno or 0) + 1, line)
    module = "zoetrope.components.curate.filters"
    return _with_import(text, f"{module}.", f"from {module}.{values['name']} import {values['capital']}\n")


def add_metric(text: str, values: Mapping[str, str]) -> str:
    """The table of metrics with one more module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.DictComp) and isinstance(node.generators[0].iter, ast.Tuple):
            last = node.generators[0].iter.elts[-1]
            lines = text.splitlines(keepends=True)
            line = lines[(last.end_lineno or 0) - 1]
            # offsets of the syntax tree count bytes
            start, rest = line.encode()[: last.end_col_offset], line.encode()[last.end_col_offset or 0 :]
            lines[(last.end_lineno or 0) - 1] = f"{start.decode()}, {values['name']}{rest.decode()}"
            module = "zoetrope.components.evaluate.metrics"
            return _with_import("".join(lines), module, f"from {module} import {values['name']}\n")
    raise UnknownTableError("METRICS is not made of a tuple of modules")


def words(text: str) -> Iterator[str]:
    """Every name and every string of a module: what a new name could be mistaken for."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        for field in ("name", "id", "attr", "arg", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def _with_import(text: str, module: str, line: str) -> str:
    """One more import after the last of a module (or of those below it); ruff puts it in order."""
    found = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module)
    ]
    if not found:
        raise UnknownTableError(f"nothing is imported from {module.rstrip('.')}")
    return _before_line(text, (found[-1].end_lineno or 0) + 1, line)


def _before_line(text: str, number: int, added: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: number - 1], added, *lines[number - 1 :]])


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
