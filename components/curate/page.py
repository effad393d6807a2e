"""The HTML fragment of the step: the funnel."""

from __future__ import annotations

from html import escape
from typing import Any

from zoetrope.infra.links import link


def curate_page(funnel: dict[str, Any], docs: str, damaged: list[dict[str, str]]) -> str:
    """The funnel as a table with a bar per filter, and the sources that could not be decoded."""
    total = max(1, funnel["total"]["clips"])
    rows = [_row("all shots", funnel["total"], None, total)]
    rows += [_row(item["name"], item["out"], item, total) for item in funnel["filters"] if item["enabled"]]
    head = "".join(
        f"<th>{title}</th>" for title in ("after", "clips", "minutes", "", "says no", "says no first", "says no alone")
    )
    broken = "".join(f"<li><code>{escape(item['name'])}</code>: {escape(item['reason'])}</li>" for item in damaged)
    trouble = f"<p>Sources that cannot be decoded:</p><ul>{broken}</ul>" if damaged else ""
    return (
        f"<section><h3>Funnel</h3><p>{funnel['kept']['clips']} of {funnel['total']['clips']} clips kept, "
        f"{funnel['kept']['seconds'] / 60:.1f} minutes. {link('Data Docs', docs)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{trouble}</section>"
    )


def _row(name: str, amount: dict[str, float], item: dict[str, Any] | None, total: int) -> str:
    width = 100 * amount["clips"] / total
    kinds = ("says_no", "first_kill", "sole_kill")
    kills = "".join(f"<td>{'' if item is None else item[kind]['clips']}</td>" for kind in kinds)
    return (
        f"<tr><td>{escape(name)}</td><td>{amount['clips']}</td><td>{amount['seconds'] / 60:.1f}</td>"
        f'<td style="min-width:8em"><div style="background:#4c78a8;height:.8em;width:{width:.1f}%"></div></td>'
        f"{kills}</tr>"
    )
