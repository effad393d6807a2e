"""The HTML fragment of the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from zoetrope.infra.links import link

SHOWN = 50


def ingest_page(rows: Sequence[dict[str, Any]], docs: str) -> str:
    """Counts by reason, and the rejected files by name (the first of them)."""
    rejected = [row for row in rows if row["status"] == "rejected"]
    usable = [row for row in rows if row["status"] == "usable"]
    hours = sum(row["duration_seconds"] for row in usable) / 3600
    reasons = Counter(row["reason"].partition(":")[0] for row in rejected)
    counts = "".join(f"<tr><td>{escape(code)}</td><td>{count}</td></tr>" for code, count in sorted(reasons.items()))
    files = "".join(
        f"<tr><td><code>{escape(row['name'])}</code></td><td>{escape(row['reason'])}</td></tr>"
        for row in rejected[:SHOWN]
    )
    more = f"<p>... and {len(rejected) - SHOWN} more</p>" if len(rejected) > SHOWN else ""
    table = (
        f"<table><thead><tr><th>reason</th><th>files</th></tr></thead><tbody>{counts}</tbody></table>"
        f"<details><summary>{len(rejected)} rejected files</summary><table><thead><tr><th>file</th><th>reason</th>"
        f"</tr></thead><tbody>{files}</tbody></table>{more}</details>"
        if rejected
        else ""
    )
    return (
        f"<section><h3>Sources</h3><p>{len(usable)} of {len(rows)} files usable, {hours:.2f} hours. "
        f"{link('Data Docs', docs)}</p>{table}</section>"
    )
