"""The registry of dataset versions."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoetrope.infra.datasets.git import GitRepository
from zoetrope.infra.datasets.layout import (
    directory_object,
    folder,
    registry_files,
    repository_files,
    shard_key,
)
from zoetrope.infra.datasets.versions import TAG, DatasetVersion, find_version, read_versions, trailers
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_bytes, get_json

SCHEMA = "zoetrope.dataset.v1"
LIST_HINT = "list the versions with `zoetrope data versions`"
_CHECKS_AT_ONCE = 16


class DatasetRegistry:
    """A git + DVC repository with one tag per dataset version; its DVC remote is the store.

    A version is one commit whose message names tag, digest, manifest and run; the tag follows the commit.
    So a process that is killed between the two leaves a commit from which the next `adopt` makes the tag.
    """

    def __init__(self, directory: Path, store: Store) -> None:
        """`directory` is created by the first `adopt`."""
        self._directory = directory.absolute()
        self._store = store
        self._git = GitRepository(self._directory)

    def adopt(self, manifest_reference: str, run_id: str) -> DatasetVersion:
        """Commits and tags a dataset version.

        Args:
            manifest_reference: `URI@sha256:HEX` of a `zoetrope.dataset.v1` manifest.
            run_id: the run that made it, for the commit message.

        Returns:
            The version; the same dataset digest gives the same one again.

        Raises:
            ZoetropeError: no dataset manifest, shards missing from the store, or git refuses.
        """
        manifest = get_json(self._store, manifest_reference)
        if manifest.get("schema") != SCHEMA:
            raise ZoetropeError(
                f"{manifest_reference}: schema {manifest.get('schema')!r} is not {SCHEMA}",
                "give the product of an encode step",
            )
        name, digest = str(manifest["name"]), str(manifest["digest"])
        with self._exclusive():
            self._git.prepare()
            self._tag_untagged_head()
            versions = [version for version in self.versions() if version.name == name]
            for version in versions:
                if version.digest == digest:
                    return version
            self._check_shards(manifest)
            tag = f"{name}-v{max((version.number for version in versions), default=0) + 1}"
            files = self._files(manifest, manifest_reference)
            self._commit(files, _message(tag, digest, manifest_reference, run_id))
            self._tag_untagged_head()
        return self.resolve(tag)

    def resolve(self, version: str) -> DatasetVersion:
        """The version behind a name.

        Args:
            version: a tag (`nano-v2`), a dataset's name (`nano`, its newest version), a commit of the
                registry (at least 7 digits) or `latest` (the newest version of all).

        Raises:
            ZoetropeError: there is none; the message names the nearest tag.
        """
        return find_version(self._git, self.versions(), version, str(self._directory), LIST_HINT)

    def versions(self) -> list[DatasetVersion]:
        """All versions, sorted by name and number."""
        if not (self._directory / ".git").is_dir():
            return []
        return read_versions(self._git)

    def _check_shards(self, manifest: Mapping[str, Any]) -> None:
        """A version whose bytes are missing would only fail in training, so it is not made."""

        def missing(shard: Mapping[str, Any]) -> bool:
            uri = self._store.uri(shard_key(shard["md5"]))
            return not self._store.exists(uri) or self._store.size(uri) != shard["bytes"]

        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
            wrong = [
                shard["path"]
                for shard, bad in zip(manifest["shards"], pool.map(missing, manifest["shards"]), strict=True)
                if bad
            ]
        if wrong:
            raise ZoetropeError(
                f"dataset {manifest['name']}: {len(wrong)} of {len(manifest['shards'])} shards are missing "
                f"or incomplete in {self._store.root}, first {wrong[0]}",
                "run the encode step again",
            )

    def _files(self, manifest: Mapping[str, Any], manifest_reference: str) -> dict[str, bytes]:
        """Content of the commit by relative path; the directory listing goes to the DVC remote on the way."""
        md5, listing = directory_object(manifest["shards"])
        self._store.put_bytes(shard_key(md5), listing)
        return {
            **repository_files(self._directory, self._store),
            **registry_files(manifest),
            f"{folder(manifest)}/index.parquet": get_bytes(self._store, manifest["index"]),
            f"{folder(manifest)}/manifest.json": get_bytes(self._store, manifest_reference),
        }

    def _commit(self, files: Mapping[str, bytes], message: str) -> None:
        for name, data in files.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            part.write_bytes(data)
            part.replace(path)
        self._git.run("add", "--force", "--", *files)
        self._git.run("commit", "--quiet", "--message", message, "--only", "--", *files)

    def _tag_untagged_head(self) -> None:
        if not self._git.head():
            return
        said = trailers(self._git.run("log", "-1", "--format=%B"))
        tag = said.get("Version", "")
        if TAG.fullmatch(tag) and not self._git.run("tag", "--list", tag).strip():
            self._git.run("tag", "--no-sign", tag, "HEAD")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One writer at a time; the lock dies with its process."""
        path = self._directory / ".dvc" / "tmp" / "adopt.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _message(tag: str, digest: str, manifest_reference: str, run_id: str) -> str:
    reference = Reference.parse(manifest_reference)
    return f"{tag}\n\nVersion: {tag}\nDigest: {digest}\nManifest: {reference}\nRun: {run_id}\n"
