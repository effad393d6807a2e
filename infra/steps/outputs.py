"""What a step leaves in the Kubeflow UI: a page, typed numbers and small files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol

from zoetrope.infra.context import StepResult
from zoetrope.infra.links import address

STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}"
    "td,th{padding:.3rem .8rem;text-align:left}nav{margin-bottom:1rem;color:#555}"
)
DOCUMENT = "<!doctype"


class Artifact(Protocol):
    """An output artifact of KFP, as far as steps know it: a local path that KFP uploads, and metadata."""

    path: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """The output artifacts of one execution; None where nobody wants one.

    Attributes:
        page: HTML.
        metrics: KFP's Metrics.
        files: a folder of small files.
    """

    page: Artifact | None = None
    metrics: Any = None
    files: Artifact | None = None

    def write(self, step: str, result: StepResult, links: Mapping[str, str]) -> None:
        """Writes everything; `links` (text -> URL) stand at the top of the page.

        Each artifact gets its file, also where its metadata say it all: kfp.local answers from its cache only a
        task of which every file is there.
        """
        if self.page is not None and self.page.path:
            write_file(Path(self.page.path), render(step, result, links).encode())
            self.page.metadata["schema"] = "zoetrope.page.v1"
        if self.metrics is not None:
            metrics = {name: float(value) for name, value in sorted(result.metrics.items())}
            for name, value in metrics.items():
                self.metrics.log_metric(name, value)
            if self.metrics.path:
                write_file(Path(self.metrics.path), json.dumps(metrics).encode())
        if self.files is not None and self.files.path:
            folder = Path(self.files.path)
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in result.files.items():
                write_file(folder / name, data)
            self.files.metadata["schema"] = "zoetrope.files.v1"


def write_file(path: Path, data: bytes) -> None:
    """Writes an output of KFP, whose folder need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def render(step: str, result: StepResult, links: Mapping[str, str]) -> str:
    """The page of a step; one that is a whole document (the report) stays as it is."""
    if result.page.startswith(DOCUMENT):
        return result.page
    body = result.page or f"<p>{escape(result.key_figure)}</p>"
    anchors = "<br>".join(address(text, url) for text, url in links.items())
    head = f"{DOCUMENT} html><meta charset=utf-8><title>{escape(step)}</title><style>{STYLE}</style>"
    return head + (f"<nav>{anchors}</nav>" if anchors else "") + f"<h1>{escape(step)}</h1>{body}"
