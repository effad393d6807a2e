"""The decision as an HTML fragment."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from zoetrope.components.promote.checks import Check
from zoetrope.infra.tracking import ModelVersion


def promotion_page(version: ModelVersion, checks: Sequence[Check], previous: int | None) -> str:
    """Which version it is, what it may be called, and every check with its facts."""
    aliases = ", ".join(f"@{alias}" for alias in version.aliases) or "no alias"
    before = f" The champion before it was version {previous}." if previous else ""
    rows = "".join(
        f"<tr><td>{'passed' if check.passed else '<b>failed</b>'}</td>"
        f"<td>{escape(check.name.replace('_', ' '))}</td><td>{escape(check.detail)}</td></tr>"
        for check in checks
    )
    return (
        f"<p>models:/{escape(version.name)}/{version.version} ({escape(aliases)}).{before}</p>"
        f"<table><tr><th>result</th><th>check</th><th>facts</th></tr>{rows}</table>"
    )
