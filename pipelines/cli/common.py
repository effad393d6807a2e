"""Options and output that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, open_store
from zoetrope.infra.tracking import local_tracking_uri
from zoetrope.pipelines.local.plan import StatePaths


def _console(stream: TextIO) -> Console:
    """As wide as the terminal; in a file or a pipe wide enough that nothing is wrapped."""
    return Console(file=stream, width=None if stream.isatty() else 200)


output = _console(sys.stdout)
errors = _console(sys.stderr)

StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", help="folder that keeps all state")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="change the recipe; may be repeated")
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="print what would be computed and why, and what it cost; start nothing")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="compute every step anew though its result is known")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
DEFAULT_STORE = Path(".zoetrope")


def state_paths(state: Path) -> StatePaths:
    """The folders of a state directory."""
    return StatePaths(state.resolve())


def state_store(state: Path) -> Store:
    """The object store of a state directory, or the one that the environment names."""
    return open_store(Settings().store or state_paths(state).store)


def tracking_uri(state: Path) -> str:
    """The MLflow of a state directory, or the one that the environment names."""
    return Settings().tracking_uri or local_tracking_uri(state_paths(state).mlflow)


def show(rows: Sequence[dict[str, Any]], as_json: bool, title: str = "", right: Sequence[str] = ()) -> None:
    """Prints rows as JSON or as a table; `right` names columns to align to the right."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=1, default=str))
        return
    if not rows:
        output.print("nothing yet")
        return
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape("" if value is None else str(value)) for value in row.values()))
    output.print(table)
