"""The page of a gate: what Great Expectations found, in its own words, as one HTML file that needs nothing else.

Great Expectations' own pages write the values of a table into HTML as they are, load their style from elsewhere and
report each reader to their maker. So its renderer says what is to be said (`RenderedDocumentContent`), and the page
is made here: every text escaped, the style inside, no script and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from string import Template
from typing import Any

# No page of a gate loads or runs anything, whatever stands in a table.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:70rem;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem;padding:.3rem .6rem;"
    "background:#eef1f5}table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;text-align:left;"
    "vertical-align:top;border-bottom:1px solid #d9dee6;overflow-wrap:anywhere}table table{width:auto;margin:.4rem 0;"
    "font-size:.9rem}b{background:#e3e8ef;border-radius:.2rem;padding:0 .25rem;font-weight:600}p.verdict{font-size:"
    "1.05rem}.passed{color:#11703a}.failed{color:#b3261e;font-weight:600}footer,dl{color:#55606f}dl{display:grid;"
    "grid-template-columns:max-content auto;gap:.1rem 1rem}dd{margin:0}footer{margin-top:3rem;font-size:.85rem}"
    "div.said{white-space:pre-line}"
)
_MARKS = {"✅": ("passed", "passed"), "❌": ("failed", "failed"), "❗": ("failed", "could not be checked")}


def render_page(name: str, result: Any, checked: datetime) -> str:
    """The page of one gate.

    Args:
        name: of the gate.
        result: Great Expectations' result of the validation.
        checked: when it was checked.
    """
    import great_expectations
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    # Its first section names objects that live in memory while the gate runs; the head of the page stands for it.
    sections = ValidationResultsPageRenderer().render(result).to_json_dict()["sections"][1:]
    body = "".join(_block(block) for section in sections for block in section["content_blocks"])
    good = bool(result.success)
    numbers = result.statistics
    verdict = "every expectation holds" if good else f"{numbers['unsuccessful_expectations']} expectations fail"
    facts = {
        "checked": f"{checked.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "expectations": numbers["evaluated_expectations"],
        "hold": numbers["successful_expectations"],
    }
    listing = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    title = f"Data gate {escape(name)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p class="verdict {"passed" if good else "failed"}">{verdict}</p><dl>{listing}</dl>{body}'
        f"<footer>Great Expectations {escape(great_expectations.__version__)}</footer></html>\n"
    )


def _block(block: Any) -> str:
    """A block of content as HTML; what is new to this module is shown as text rather than left out."""
    if isinstance(block, list):
        return "".join(f'<div class="said">{_block(each)}</div>' for each in block)
    if not isinstance(block, Mapping):
        return escape("" if block is None else str(block))
    show = _KINDS.get(str(block.get("content_block_type")))
    return show(block) if show is not None else escape(str(dict(block)))


def _list(block: Mapping[str, Any]) -> str:
    return "<ul>" + "".join(f"<li>{_block(each)}</li>" for each in block[block["content_block_type"]]) + "</ul>"


def _sentence(template: Mapping[str, Any]) -> str:
    """A sentence with its values marked; both may hold text of the table."""
    values = dict(template.get("params") or {})
    if "markdown_status_icon" in values:
        look, word = _MARKS.get(str(values["markdown_status_icon"]), ("", str(values["markdown_status_icon"])))
        return f'<span class="{look}">{escape(word)}</span>'
    marked = {key: f"<b>{escape(str(value))}</b>" for key, value in values.items()}
    return Template(escape(str(template["template"]).strip())).safe_substitute(marked)


def _table(block: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{_block(each)}</th>" for each in block.get("header_row") or ())
    rows = "".join("<tr>" + "".join(f"<td>{_block(each)}</td>" for each in row) + "</tr>" for row in block["table"])
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{rows}</table>"


_KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "header": lambda block: f"<h2>{_block(block['header'])}</h2>",
    "string_template": lambda block: _sentence(block["string_template"]),
    "table": _table,
    "bullet_list": _list,
    "value_list": _list,
    "collapse": lambda block: "",  # a traceback with paths of the machine; its message stands before it
}
