"""Addresses in HTML pages."""

from __future__ import annotations

from html import escape
from urllib.parse import urlsplit

from zoetrope.infra.redact import redacted

LINKABLE_SCHEMES = ("file", "http", "https")
"""What a browser can open; it cannot follow `s3:`."""


def safe_link(uri: str) -> str:
    """`uri` without login when a browser may follow it, else an empty string: `javascript:` is never a link."""
    uri = redacted(uri)
    return uri if urlsplit(uri).scheme in LINKABLE_SCHEMES else ""


def link(text: str, uri: str) -> str:
    """HTML that names `uri`: a link where a browser can follow it, else the address to copy."""
    if found := safe_link(uri):
        return f'<a href="{escape(found)}">{escape(text)}</a>'
    return f"{escape(text)}: <code>{escape(redacted(uri))}</code>"


def address(text: str, url: str) -> str:
    """HTML of a link that can be copied as well: the frame in which KFP shows a page opens none."""
    shown = escape(redacted(url))
    return f'{escape(text)}: <a href="{shown}" target="_blank">{shown}</a>'
