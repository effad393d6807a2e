"""DVC's own file formats, written directly: importing DVC takes longer than all that the registry does.

The formats are those of DVC 3 (`dvc_data.hashfile.tree`, `dvc.dvcfile`); the tests read them with DVC itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoetrope.infra.references import canonical_json
from zoetrope.infra.store import Store

REMOTE = "dvc"  # key below the store's root where the DVC remote lies
SHARDS = "shards"


def shard_key(md5: str) -> str:
    """Store key of an object in the DVC remote's layout."""
    return f"{REMOTE}/files/md5/{md5[:2]}/{md5[2:]}"


def directory_object(shards: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
    """The listing that DVC keeps for a tracked directory, and its address (MD5 with `.dir`).

    Args:
        shards: the manifest's entries, with `path` (`shards/...`) and `md5`.
    """
    entries = [{"md5": str(shard["md5"]), "relpath": str(shard["path"]).removeprefix(f"{SHARDS}/")} for shard in shards]
    data = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()
    return hashlib.md5(data, usedforsecurity=False).hexdigest() + ".dir", data


def tracking_file(md5: str, shards: Sequence[Mapping[str, Any]]) -> bytes:
    """Content of `shards.dvc`."""
    size = sum(int(shard["bytes"]) for shard in shards)
    fields = f"md5: {md5}", f"size: {size}", f"nfiles: {len(shards)}", "hash: md5", f"path: {SHARDS}"
    return ("outs:\n- " + "\n  ".join(fields) + "\n").encode()


def folder(manifest: Mapping[str, Any]) -> str:
    """Where a dataset's files lie in the registry."""
    return f"datasets/{manifest['name']}"


def registry_files(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """What a version of this dataset puts into the registry, as far as the manifest alone says it.

    The index, which is read from the store, and DVC's own settings come on top when the version is adopted.

    Returns:
        Relative path -> content: the manifest, `shards.dvc` and the `.gitignore` beside it.
    """
    md5, _ = directory_object(manifest["shards"])
    return {
        f"{folder(manifest)}/.gitignore": f"/{SHARDS}\n".encode(),
        f"{folder(manifest)}/{SHARDS}.dvc": tracking_file(md5, manifest["shards"]),
        f"{folder(manifest)}/manifest.json": canonical_json(manifest),
    }


def repository_files(directory: Path, store: Store) -> dict[str, bytes]:
    """What `dvc init` would write, with the store as remote: relative path -> content."""
    return {
        ".dvc/config": _configuration(directory, store).encode(),
        ".dvc/.gitignore": b"/config.local\n/tmp\n/cache\n",
        ".dvcignore": b"",
    }


def _configuration(directory: Path, store: Store) -> str:
    lines = ["[core]", "    remote = store", "    analytics = false", "    check_update = false"]
    lines += ["['remote \"store\"']", *(f"    {name} = {value}" for name, value in _remote(directory, store).items())]
    return "\n".join(lines) + "\n"


def _remote(directory: Path, store: Store) -> dict[str, str]:
    path = store.local_path(store.uri(REMOTE))
    if path is not None:
        # A relative path keeps the registry valid when the folder that holds it and the store is moved.
        return {"url": os.path.relpath(path, directory.resolve() / ".dvc")}
    return {"url": store.uri(REMOTE), **store.dvc_options()}
