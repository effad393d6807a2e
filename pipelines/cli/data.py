"""`zoetrope data`: sample footage, funnels and dataset versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_json
from zoetrope.pipelines.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    errors,
    output,
    show,
    state_paths,
    state_store,
)
from zoetrope.pipelines.cli.rethreshold import rethreshold

if TYPE_CHECKING:
    from zoetrope.infra.datasets import DatasetVersion
    from zoetrope.infra.store import Store

app = typer.Typer(help="Raw video and dataset versions.", no_args_is_help=True)
app.command("rethreshold")(rethreshold)


@app.command("samples")
def samples(
    directory: Annotated[Path, typer.Argument(help="folder to fill; must be new or empty")],
    seed: Annotated[int, typer.Option(help="same seed, same pixels")] = 0,
    films: Annotated[int, typer.Option(help="number of films")] = 100,
    defects: Annotated[bool, typer.Option(help="break some of it on purpose, at known rates")] = True,
) -> None:
    """Render sample footage: films of simple scenes with captions, defects and the truth about both.

    Example: zoetrope data samples footage --seed 7
    """
    from zoetrope.components.ingest.footage import FootageConfig, render_footage

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ZoetropeError(f"{directory} is not an empty folder", "choose a new one; nothing is overwritten")
    config = FootageConfig(seed=seed, films=films, defects=defects)
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("rendering", total=1.0)

        def show_progress(message: str, share: float) -> None:
            progress.update(task, description=message, completed=share)

        render_footage(directory, config, show_progress)
    count = sum(1 for path in directory.iterdir() if path.suffix == ".mp4")
    output.print(f"{count} files, their captions and truth.json in {directory}", highlight=False, soft_wrap=True)


RemoteOption = Annotated[
    str, typer.Option("--remote", metavar="URL", help="git remote of a cluster's registry: https, ssh, git or file")
]


@app.command("versions")
def versions(store: StoreOption = DEFAULT_STORE, remote: RemoteOption = "", as_json: JsonOption = False) -> None:
    """List the dataset versions of a state directory, or of a git remote.

    Example: zoetrope data versions --remote ssh://git@host/datasets.git
    """
    from zoetrope.infra.datasets import DatasetRegistry, RemoteRegistry

    if remote:
        found = RemoteRegistry(remote).versions()
    else:
        found = DatasetRegistry(state_paths(store).datasets, state_store(store)).versions()
    rows = [
        {"tag": each.tag, "digest": each.digest, "revision": each.revision[:12], "reference": each.reference}
        for each in found
    ]
    show(rows if as_json else [{k: v for k, v in row.items() if k != "reference"} for row in rows], as_json)


@app.command("funnel")
def funnel(
    dataset: Annotated[str, typer.Argument(help="tag, revision or `latest`")] = "latest",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what each filter dropped on the way to a dataset version.

    Example: zoetrope data funnel nano-v1
    """
    from zoetrope.infra.datasets import DatasetRegistry

    objects = state_store(store)
    version = DatasetRegistry(state_paths(store).datasets, objects).resolve(dataset)
    manifest = get_json(objects, version.reference)
    value: Any = get_json(objects, manifest["funnel"])
    if as_json:
        typer.echo(json.dumps(value, indent=1))
        return
    show(
        value["filters"] if isinstance(value, dict) and "filters" in value else value,
        False,
        title=version.tag,
    )


@app.command("adopt")
def adopt(
    manifest: Annotated[
        str, typer.Argument(help="output file of the step `encode`, a manifest's reference, or with --remote a RUN")
    ],
    store: StoreOption = DEFAULT_STORE,
    remote: RemoteOption = "",
    push: Annotated[bool, typer.Option("--push", help="to --remote, for everybody; without it, a dry run")] = (False),
) -> None:
    """Commit and tag a dataset version; the same dataset keeps its tag.

    Here: in the local registry. With --remote: what a run of a cluster made (store by ZOETROPE_STORE), in a clone of
    that registry, which --push sends. Pods never push.

    Example: zoetrope data adopt 1f0c7d52-... --remote ssh://git@host/datasets.git --push
    """
    if remote:
        _adopt_remote(manifest, store, remote, push)
        return
    if push:
        raise ZoetropeError("--push sends a version to a git remote", "add --remote URL")
    from zoetrope.infra.datasets import DatasetRegistry

    reference = manifest
    if "@sha256:" not in manifest:
        try:
            reference = str(json.loads(Path(manifest).read_text(encoding="utf-8"))["product"])
        except (OSError, ValueError, KeyError) as error:
            raise ZoetropeError(
                f"{manifest}: no output of the step `encode`",
                "run `dvc repro` first; for a run of a cluster add --remote URL",
            ) from error
    version = DatasetRegistry(state_paths(store).datasets, state_store(store)).adopt(reference, "by hand")
    _print_version(version)


def _adopt_remote(run: str, state: Path, remote: str, push: bool) -> None:
    from zoetrope.infra.datasets import RemoteClone
    from zoetrope.infra.datasets.remote_url import checked_remote
    from zoetrope.infra.references import digest_bytes
    from zoetrope.infra.settings import Settings
    from zoetrope.infra.store import open_store

    url, root = checked_remote(remote), Settings().store
    if not root:
        raise ZoetropeError(
            "the store of the cluster is not named", "set ZOETROPE_STORE=s3://bucket/prefix and its credentials"
        )
    objects = open_store(root)
    reference = run if "@sha256:" in run else _product_of(objects, run)
    clone = state_paths(state).root / "dataset-remotes" / digest_bytes(url.encode())[:12]
    version = RemoteClone(clone, url, objects).adopt(reference, run, push=push)
    _print_version(version)
    if not push:
        errors.print("dry run: nothing was pushed; add --push", highlight=False)


def _product_of(objects: Store, run: str) -> str:
    """The dataset that a run of a cluster made."""
    uri = objects.uri(f"runs/{run}/steps/encode.json")
    if not objects.exists(uri):
        raise ZoetropeError(
            f"run {run}: its step `encode` has left no dataset in {objects.root}",
            "see `zoetrope runs show RUN --host URL`; is ZOETROPE_STORE the store of that cluster?",
        )
    return str(json.loads(objects.read(uri))["product"])


def _print_version(version: DatasetVersion) -> None:
    output.print(f"{version.tag}  digest {version.digest}  revision {version.revision[:12]}", highlight=False)
