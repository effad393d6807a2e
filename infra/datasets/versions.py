"""Dataset versions as git knows them: a tag on a commit whose message names digest and manifest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoetrope.infra.datasets.git import GitRepository
from zoetrope.infra.errors import ZoetropeError

TAG = re.compile(r"(?P<name>[a-z0-9][a-z0-9_]*)-v(?P<number>[1-9][0-9]*)")
_REVISION = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        tag: `NAME-vN`; empty where a manifest was named directly.
        revision: commit of the registry; empty like `tag`.
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


def read_versions(git: GitRepository) -> list[DatasetVersion]:
    """All versions of a repository, sorted by name and number; other tags are passed over."""
    text = git.run("for-each-ref", "refs/tags", "--format=%(refname:short)%00%(objectname)%00%(contents)%00")
    fields = text.split("\0")
    found = []
    for tag, revision, message in zip(fields[0::3], fields[1::3], fields[2::3], strict=False):
        said = trailers(message)
        if TAG.fullmatch(tag.strip()) and said.get("Version") == tag.strip():
            found.append(DatasetVersion(tag.strip(), revision, said["Digest"], said["Manifest"]))
    return sorted(found, key=lambda version: (version.name, version.number))


def find_version(
    git: GitRepository, versions: Sequence[DatasetVersion], wanted: str, place: str, list_hint: str
) -> DatasetVersion:
    """The version behind a name.

    Args:
        git: the repository.
        versions: all of it.
        wanted: a tag (`nano-v2`), a dataset's name (`nano`, its newest version), a commit of the registry (at least
            7 digits) or `latest` (the newest version of all).
        place: what to call the registry in messages.
        list_hint: how a person lists the versions.

    Raises:
        ZoetropeError: there is none; the message names the nearest tag.
    """
    by_tag = {entry.tag: entry for entry in versions}
    if wanted in by_tag:
        return by_tag[wanted]
    if wanted == "latest" and versions:
        return _newest(git, versions)
    named = [entry for entry in versions if entry.name == wanted]
    if named:
        return named[-1]
    if _REVISION.fullmatch(wanted):
        found = [entry for entry in versions if entry.revision.startswith(wanted)]
        if len(found) == 1:
            return found[0]
    if not versions:
        raise ZoetropeError(
            f"dataset version {wanted!r}: the registry {place} holds none yet",
            "make one from raw video: `zoetrope run nano`, or the pipeline `data` and `zoetrope data adopt`",
        )
    near = difflib.get_close_matches(wanted, by_tag, n=1, cutoff=0.0)
    raise ZoetropeError(f"dataset version {wanted!r} is not in {place}", f"nearest: {near[0]}; {list_hint}")


def _newest(git: GitRepository, versions: Sequence[DatasetVersion]) -> DatasetVersion:
    by_revision = {version.revision: version for version in versions}
    for revision in git.run("rev-list", "--topo-order", "--tags").split():
        if revision in by_revision:
            return by_revision[revision]
    return versions[-1]


def trailers(message: str) -> dict[str, str]:
    """`Name: value` lines of a commit message."""
    lines = (line.partition(": ") for line in message.splitlines())
    return {key: value.strip() for key, separator, value in lines if separator}
