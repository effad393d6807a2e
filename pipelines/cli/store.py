"""`zoetrope store`: the object store and what it holds for nobody."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    errors,
    output,
    show,
    state_paths,
    state_store,
    tracking_uri,
)

if TYPE_CHECKING:
    from zoetrope.infra.gc import Collection

DAY = 86_400.0

app = typer.Typer(help="The object store.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The object store."""


@app.command("gc")
def collect_garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and remove nothing")] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="what was written or used later stays")
    ] = 7.0,
    remote: Annotated[
        str, typer.Option("--remote", metavar="URL", help="data registry of a cluster; else ZOETROPE_DATASET_REMOTE")
    ] = "",
    no_versions: Annotated[
        bool, typer.Option("--no-versions", help="of a cluster's store: there is no data registry")
    ] = False,
    no_models: Annotated[
        bool, typer.Option("--no-models", help="of a cluster's store: there is no registry of models")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Remove what no run, dataset version or model needs any more.

    Runs are kept as long as their folder in runs/ is there: delete that first. With ZOETROPE_STORE the store of a
    cluster is meant; its data registry and its MLflow have to be named as well, since their versions and models stay.

    Example: zoetrope store gc --dry-run
    """
    from zoetrope.infra.gc import Places
    from zoetrope.infra.gc import collect_garbage as work

    settings, paths = Settings(), state_paths(store)
    if not settings.store and not paths.root.is_dir():
        raise ZoetropeError(f"no state in {store}", "give --store DIR")
    remote = remote or settings.dataset_remote
    if settings.store:
        _require_registries(remote, settings.tracking_uri, no_versions=no_versions, no_models=no_models)
    with tempfile.TemporaryDirectory(prefix="zoetrope-gc-") as scratch:
        places = Places(state_store(store), Path(scratch), paths.root, remote, "" if no_models else tracking_uri(store))
        done = work(places, older_than * DAY, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(_as_json(done, dry_run), indent=1))
        return
    for run, since in sorted(done.open_runs.items()):
        errors.print(f"open since {_time(since)}: {run}; what was written later stays", markup=False, highlight=False)
    rows = [
        {"kind": kind, "objects": f"{count:,}", "MB": f"{size / 1e6:.1f}"}
        for kind, (count, size) in sorted(done.removed.items())
    ]
    if not rows:
        output.print("nothing to remove")
        return
    show(rows, False, right=("objects", "MB"))
    output.print(f"{'would free' if dry_run else 'freed'} {done.bytes / 1e6:.1f} MB", highlight=False)


def _require_registries(remote: str, tracking: str, *, no_versions: bool, no_models: bool) -> None:
    """What a cluster's registries name must stay, so nothing is removed while they are not known."""
    if not remote and not no_versions:
        raise ZoetropeError(
            "store gc: the data registry of the cluster is not named",
            "give --remote URL or set ZOETROPE_DATASET_REMOTE; --no-versions where there is none",
        )
    if not tracking and not no_models:
        raise ZoetropeError(
            "store gc: the MLflow of the cluster is not named",
            "set ZOETROPE_TRACKING_URI; --no-models where there is none",
        )


def _as_json(done: Collection, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "kept_since": done.kept_since,
        "open_runs": done.open_runs,
        "removed": {kind: {"objects": n, "bytes": size} for kind, (n, size) in sorted(done.removed.items())},
        "bytes": done.bytes,
    }


def _time(since: float) -> str:
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M UTC")
