"""The roots of a store: whose content stays, with all that it names.

A root provider gives texts (records, commit messages, tags of models), in which references are found wherever they
stand. A new kind of root is one function and one line in `ROOTS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from zoetrope.infra.datasets.git import GitRepository
from zoetrope.infra.datasets.remote import GitRemote
from zoetrope.infra.processes import running_holder
from zoetrope.infra.store import Store


@dataclass(frozen=True)
class Places:
    """Where the roots of a store are to be found.

    Attributes:
        store: the object store.
        scratch: folder for local copies.
        state: state directory of this machine (`--store DIR`): its runs, data registries, lock.
        dataset_remote: git URL of the data registry; empty for none.
        tracking_uri: MLflow's registry of models; empty for none.
    """

    store: Store
    scratch: Path
    state: Path
    dataset_remote: str = ""
    tracking_uri: str = ""


def local_runs(places: Places) -> Iterator[bytes]:
    """Plans, events and records of the runs of this state directory."""
    for path in sorted((places.state / "runs").glob("*/*.json*")):
        if path.suffix in (".json", ".jsonl"):
            yield path.read_bytes()


def stored_runs(places: Places) -> Iterator[bytes]:
    """Plans, steps and records of the runs on a cluster."""
    for found in places.store.objects("runs/"):
        if found.key.endswith(".json"):
            yield places.store.read(found.key)


def dataset_versions(places: Places) -> Iterator[bytes]:
    """Commits and tags of the data registries: their messages name the manifests."""
    folders = [places.state / "datasets", *sorted((places.state / "dataset-remotes").glob("*"))]
    for folder in folders:
        if (folder / ".git").is_dir():
            yield _messages(GitRepository(folder))
    if places.dataset_remote:
        bare = places.scratch / "datasets"
        git = GitRepository(bare)
        if not (bare / "HEAD").is_file():
            bare.mkdir(parents=True)
            git.run("init", "--quiet", "--bare")
        GitRemote(places.dataset_remote).fetch(bare, commits_only=True)
        yield _messages(git)


def registered_models(places: Places) -> Iterator[bytes]:
    """Checkpoints and tags of all versions of all models."""
    from zoetrope.infra.tracking import ModelRegistry
    from zoetrope.infra.tracking.client import database_file

    file = database_file(places.tracking_uri) if places.tracking_uri else None
    if not places.tracking_uri or (file is not None and not file.is_file()):
        return  # nobody has registered anything yet; connecting would make the database
    registry = ModelRegistry(places.tracking_uri)
    for name in registry.names():
        for version in registry.versions(name):
            yield json.dumps([str(version.checkpoint), dict(version.tags)]).encode()


Root = Callable[[Places], Iterator[bytes]]

ROOTS: Mapping[str, Root] = {
    "runs here": local_runs,
    "runs on a cluster": stored_runs,
    "dataset versions": dataset_versions,
    "models": registered_models,
}
"""Kind of root -> what gives its texts."""


def open_runs(places: Places) -> dict[str, float]:
    """Runs that have not ended -> when they began, seconds since the epoch.

    The run that holds the lock of the state directory, those in `ledger-open/`, and those whose budget is reserved.
    """
    found: dict[str, float] = {}
    holder = running_holder(places.state)
    if holder:
        found[f"{holder['command']} (pid {holder['pid']})"] = datetime.fromisoformat(holder["started"]).timestamp()
    for each in places.store.objects("ledger-open/"):
        run = each.key.rpartition("/")[2].removesuffix(".json")
        found[run] = min(_began(places.store, run), each.modified)
    for run, since in _reserved(places.store).items():
        found.setdefault(run, min(_began(places.store, run), since))
    return found


def _reserved(store: Store) -> dict[str, float]:
    """Runs with a reservation that nobody has settled -> when it was made."""
    open_, settled = {}, set()
    for each in store.objects("ledger/"):
        folder, middle, name = each.key.rpartition("/budget/")
        if not middle or name.endswith(".claim.jsonl"):
            continue
        if name.endswith(".settled.jsonl"):
            settled.add((folder, name.removesuffix(".settled.jsonl")))
        else:
            open_[folder, name.removesuffix(".jsonl")] = each.modified
    found: dict[str, float] = {}
    for (folder, name), since in open_.items():
        if (folder, name) not in settled:
            run = folder.removeprefix("ledger/")
            found[run] = min(since, found.get(run, since))
    return found


def _began(store: Store, run: str) -> float:
    """When the run says that it began; infinite where it has no plan."""
    key = f"runs/{run}/plan.json"
    return float(json.loads(store.read(key)).get("started") or "inf") if store.exists(key) else float("inf")


def _messages(git: GitRepository) -> bytes:
    refs = git.run("for-each-ref", "--format=%(contents)")
    commits = git.run("log", "--all", "--format=%B") if git.run("rev-list", "--all", "--max-count=1").strip() else ""
    return (refs + commits).encode()
