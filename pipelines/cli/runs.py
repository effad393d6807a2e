"""`zoetrope runs`: the records of what ran here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, show, state_paths
from zoetrope.pipelines.cli.run import print_summary

app = typer.Typer(help="Pipeline runs.", no_args_is_help=True)


def _read(directory: Path) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name in ("plan.json", "record.json"):
        if (directory / name).exists():
            record |= json.loads((directory / name).read_text(encoding="utf-8"))
    return record


@app.command("list")
def list_runs(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the runs of a state directory, newest last.

    Example: zoetrope runs list
    """
    folders = sorted(state_paths(store).runs.glob("*/plan.json"), key=lambda path: path.stat().st_mtime)
    rows = []
    for record in (_read(path.parent) for path in folders):
        rows.append(
            {
                "run": record["run_id"],
                "pipeline": record["pipeline"],
                "status": record.get("status", "not finished"),
                "USD": f"{float(record.get('cost_usd', 0)):.6f}",
                "dataset": (record.get("dataset") or {}).get("tag", ""),
            }
        )
    show(rows, as_json)


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(help="run id")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one run: steps, seconds, cost, key figures.

    Example: zoetrope runs show nano-20261123-101500-a1b2
    """
    directory = state_paths(store).run(run)
    if not (directory / "record.json").is_file() or directory.parent != state_paths(store).runs:
        raise ZoetropeError(f"no record of run {run}", "`zoetrope runs list` shows what there is")
    print_summary({"peak_memory_bytes": 0, **_read(directory)}, directory, as_json)


@app.command("logs")
def logs(run: Annotated[str, typer.Argument(help="run id")], store: StoreOption = DEFAULT_STORE) -> None:
    """Print the whole log of a run.

    Example: zoetrope runs logs nano-20261123-101500-a1b2
    """
    path = state_paths(store).run(run) / "log.txt"
    if not path.is_file() or path.parent.parent != state_paths(store).runs:
        raise ZoetropeError(f"no log of run {run}", "`zoetrope runs list` shows what there is")
    typer.echo(path.read_text(encoding="utf-8", errors="replace"))
