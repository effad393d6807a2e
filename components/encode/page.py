"""The dataset as a fragment of HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def render_page(manifest: Mapping[str, Any]) -> str:
    """A table of the buckets and a line about shards and licence."""
    counts = manifest["counts"]
    rows = "".join(
        f"<tr><td>{escape(bucket['name'])}</td><td>{counts['samples'][bucket['name']]:,}</td>"
        f"<td>{counts['too_short'][bucket['name']]:,}</td>"
        f"<td>{' × '.join(str(length) for length in bucket['latent'])}</td></tr>"
        for bucket in manifest["buckets"]
    )
    size = sum(shard["bytes"] for shard in manifest["shards"])
    return (
        f"<h3>Dataset {escape(manifest['name'])}</h3>"
        "<table><thead><tr><th>bucket</th><th>samples</th><th>clips too short</th>"
        f"<th>latent C × T × H × W</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{counts['train']:,} clips for training, {counts['held_out']:,} held out, "
        f"{counts['unreadable']:,} unreadable; {len(manifest['shards']):,} shards, {size / 1e6:.1f} MB. "
        f"Licence: {escape(manifest['licence'])}. Digest <code>{manifest['digest'][:16]}</code>.</p>"
    )
