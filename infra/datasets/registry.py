"""The registry of dataset versions."""

from __future__ import annotations

import difflib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoetrope.infra.datasets.git import GitRepository
from zoetrope.infra.datasets.layout import (
    SHARDS,
    directory_object,
    repository_files,
    shard_key,
    tracking_file,
)
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, get_bytes, get_json

SCHEMA = "zoetrope.dataset.v1"
LIST_HINT = "list the versions with `zoetrope data versions`"
_TAG = re.compile(r"(?P<name>[a-z0-9][a-z0-9_]*)-v(?P<number>[1-9][0-9]*)")
_REVISION = re.compile(r"[0-9a-f]{7,40}")
_CHECKS_AT_ONCE = 16


@dataclass(frozen=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        tag: `NAME-vN`.
        revision: commit of the registry.
        digest: the dataset's own SHA-256, which does not depend on where it is stored.
        reference: the manifest, `URI@sha256:HEX`.
    """

    tag: str
    revision: str
    digest: str
    reference: str

    @property
    def name(self) -> str:
        """The dataset's name, the tag without its number."""
        return self.tag.rpartition("-v")[0]

    @property
    def number(self) -> int:
        """1 for the first version of the name."""
        return int(self.tag.rpartition("-v")[2])


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
        versions = self.versions()
        by_tag = {entry.tag: entry for entry in versions}
        if version in by_tag:
            return by_tag[version]
        if version == "latest" and versions:
            return self._newest(versions)
        named = [entry for entry in versions if entry.name == version]
        if named:
            return named[-1]
        if _REVISION.fullmatch(version):
            found = [entry for entry in versions if entry.revision.startswith(version)]
            if len(found) == 1:
                return found[0]
        if not versions:
            raise ZoetropeError(
                f"dataset version {version!r}: the registry {self._directory} holds none yet",
                "make one from raw video: `zoetrope run nano`",
            )
        near = difflib.get_close_matches(version, by_tag, n=1, cutoff=0.0)
        raise ZoetropeError(
            f"dataset version {version!r} is not in {self._directory}", f"nearest: {near[0]}; {LIST_HINT}"
        )

    def versions(self) -> list[DatasetVersion]:
        """All versions, sorted by name and number."""
        if not (self._directory / ".git").is_dir():
            return []
        text = self._git.run("for-each-ref", "refs/tags", "--format=%(refname:short)%00%(objectname)%00%(contents)%00")
        fields = text.split("\0")
        found = []
        for tag, revision, message in zip(fields[0::3], fields[1::3], fields[2::3], strict=False):
            said = _trailers(message)
            if _TAG.fullmatch(tag.strip()) and said.get("Version") == tag.strip():
                found.append(DatasetVersion(tag.strip(), revision, said["Digest"], said["Manifest"]))
        return sorted(found, key=lambda version: (version.name, version.number))

    def _newest(self, versions: list[DatasetVersion]) -> DatasetVersion:
        by_revision = {version.revision: version for version in versions}
        for revision in self._git.run("rev-list", "--topo-order", "HEAD").split():
            if revision in by_revision:
                return by_revision[revision]
        return versions[-1]

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
        folder = f"datasets/{manifest['name']}"
        return {
            **repository_files(self._directory, self._store),
            f"{folder}/.gitignore": f"/{SHARDS}\n".encode(),
            f"{folder}/{SHARDS}.dvc": tracking_file(md5, manifest["shards"]),
            f"{folder}/index.parquet": get_bytes(self._store, manifest["index"]),
            f"{folder}/manifest.json": get_bytes(self._store, manifest_reference),
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
        said = _trailers(self._git.run("log", "-1", "--format=%B"))
        tag = said.get("Version", "")
        if _TAG.fullmatch(tag) and not self._git.run("tag", "--list", tag).strip():
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


def _trailers(message: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in message.splitlines())
    return {key: value.strip() for key, separator, value in lines if separator}
