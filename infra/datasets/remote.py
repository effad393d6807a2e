"""The registry behind a git remote: read by pods, which never push; written by a person's `data adopt`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoetrope.infra.datasets.dataset_registry import DatasetRegistry
from zoetrope.infra.datasets.git import GitError, GitRepository
from zoetrope.infra.datasets.remote_url import GitCredentials, checked_remote
from zoetrope.infra.datasets.versions import DatasetVersion, find_version, read_versions
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, get_json, open_store

LIST_HINT = "list the versions with `zoetrope data versions --remote URL`"
MAIN = "main"
_TRIES = 5
_REASONS: tuple[tuple[str, str, str, bool], ...] = (
    ("could not resolve host", "its host name is unknown", "check the URL", False),
    ("name or service not known", "its host name is unknown", "check the URL", False),
    ("unable to look up", "its host name is unknown", "check the URL", False),
    ("permission denied (", "the login was refused", "check the secret zoetrope-git", False),
    ("host key verification failed", "its host key is not known", "add it to ZOETROPE_GIT_KNOWN_HOSTS", False),
    ("authentication failed", "the login was refused", "check the secret zoetrope-git", False),
    ("could not read username", "it wants a login", "set the secret zoetrope-git", False),
    ("the requested url returned error: 403", "the login may not do that", "check the secret zoetrope-git", False),
    ("the requested url returned error: 401", "the login was refused", "check the secret zoetrope-git", False),
    ("not found", "there is no such repository", "check the URL", False),
    ("no such repository", "there is no such repository", "check the URL", False),
    ("does not appear to be a git repository", "there is no such repository", "check the URL", False),
    ("does not exist", "there is no such repository", "check the URL", False),
    ("access denied or repository not exported", "there is no such repository", "check the URL", False),
    ("not allowed", "its kind of URL is not allowed", "check the URL", False),
    ("connection refused", "connection refused", "is the git server running?", True),
    ("timed out", "no answer in time", "is the git server running?", True),
    ("unable to connect", "no answer", "is the git server running?", True),
    ("read from remote", "no answer", "is the git server running?", True),
)


class GitRemote:
    """A git remote, and the one way to talk to it.

    Args:
        url: https, ssh, git or file.
        credentials: for it; else from the environment.
    """

    def __init__(self, url: str, credentials: GitCredentials | None = None) -> None:
        self.url = checked_remote(url)
        self._credentials = credentials or GitCredentials()

    def call(self, directory: Path, *arguments: str) -> str:
        """Runs `git ARGUMENTS` in `directory` with our login; its faults become one line about the remote."""
        with tempfile.TemporaryDirectory() as scratch:
            environment = self._credentials.environment(self.url, Path(scratch))
            try:
                return GitRepository(directory, environment).run(*arguments)
            except GitError as error:
                raise self._explained(error) from error

    def fetch(self, directory: Path, *, commits_only: bool = False) -> None:
        """Makes the branches (`refs/remotes/origin`) and tags of a repository those of the remote."""
        # Of a version the commit's message says all that there is to know; index and manifest stay where they are.
        depth = ("--filter=tree:0",) if commits_only else ()
        refs = "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
        self.call(directory, "fetch", "--quiet", "--prune", "--no-tags", *depth, "--", self.url, *refs)

    def branch(self, directory: Path) -> str:
        """Name of the remote's main branch."""
        for line in self.call(directory, "ls-remote", "--symref", "--", self.url, "HEAD").splitlines():
            if line.startswith("ref: refs/heads/"):
                return line.removeprefix("ref: refs/heads/").partition("\t")[0]
        return MAIN

    def _explained(self, error: GitError) -> ZoetropeError:
        said = error.said.lower()
        for sign, reason, hint, retryable in _REASONS:
            if sign in said:
                return ZoetropeError(f"dataset remote {self.url}: {reason}", hint, retryable=retryable)
        reason = error.headline.partition("failed: ")[2] or error.headline
        return ZoetropeError(f"dataset remote {self.url}: {reason}", "look at it with `git ls-remote URL`")


class RemoteRegistry:
    """The versions at a git remote, read once into a scratch folder that goes with this object."""

    def __init__(self, url: str, credentials: GitCredentials | None = None) -> None:
        """Nothing is fetched yet; raises ZoetropeError for a URL that is not allowed."""
        self._remote = GitRemote(url, credentials)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def versions(self) -> list[DatasetVersion]:
        """All versions, sorted by name and number."""
        return read_versions(self._fetched())

    def resolve(self, version: str) -> DatasetVersion:
        """The version behind a tag, a name, a commit or `latest`; ZoetropeError where there is none."""
        return find_version(self._fetched(), self.versions(), version, self._remote.url, LIST_HINT)

    def _fetched(self) -> GitRepository:
        if self._scratch is None:
            scratch = tempfile.TemporaryDirectory(prefix="zoetrope-datasets-")
            directory = Path(scratch.name)
            GitRepository(directory).run("init", "--quiet", "--bare")
            self._remote.fetch(directory, commits_only=True)
            self._scratch = scratch
        return GitRepository(Path(self._scratch.name))


def resolve_dataset(text: str, settings: Settings, credentials: GitCredentials | None = None) -> DatasetVersion:
    """The dataset version that a person named, once and for all.

    Args:
        text: a tag, a dataset's name, a commit, `latest`, or a reference `URI@sha256:HEX`, which passes through.
        settings: of the process; `dataset_remote` is asked for everything but a reference.
        credentials: of the remote; else from the environment.

    Raises:
        ZoetropeError: there is no such version, or no remote to ask.
    """
    wanted = text.strip()
    if "@sha256:" in wanted:
        reference = Reference.parse(wanted)
        manifest = get_json(open_store(settings.store), reference) if settings.store else {}
        return DatasetVersion("", "", str(manifest.get("digest", "")), str(reference))
    if not settings.dataset_remote:
        raise ZoetropeError(
            f"dataset version {wanted!r}: no dataset remote is set",
            "set ZOETROPE_DATASET_REMOTE (configmap zoetrope-settings), or give a reference URI@sha256:digest",
        )
    return RemoteRegistry(settings.dataset_remote, credentials).resolve(wanted)


class RemoteClone:
    """A clone of the registry on a person's machine, from which versions are adopted and pushed.

    Args:
        directory: the clone; made where it is absent. It follows the remote: what was not pushed is forgotten.
        url: the remote.
        store: the object store of the cluster.
        credentials: of the remote; else from the environment.
    """

    def __init__(self, directory: Path, url: str, store: Store, credentials: GitCredentials | None = None) -> None:
        self._remote = GitRemote(url, credentials)
        self._registry = DatasetRegistry(directory, store)
        self._directory = directory.absolute()

    def adopt(self, manifest_reference: str, run_id: str, *, push: bool) -> DatasetVersion:
        """Commits and tags a version on top of what the remote has; with `push` it is there for everybody.

        When somebody else pushes at the same moment, theirs stays and ours gets the next number.

        Raises:
            ZoetropeError: no dataset manifest, shards missing from the store, or the remote refuses.
        """
        for number in range(_TRIES):
            with self._following() as branch:
                version = self._registry.adopt(manifest_reference, run_id)
                if not push:
                    return version
                try:
                    refs = f"HEAD:refs/heads/{branch}", f"refs/tags/{version.tag}"
                    self._remote.call(self._directory, "push", "--quiet", "--atomic", "--", self._remote.url, *refs)
                except ZoetropeError as error:
                    if not _overtaken(error) or number == _TRIES - 1:
                        raise
                    continue
                return version
        raise AssertionError("unreachable")

    @contextmanager
    def _following(self) -> Iterator[str]:
        git = GitRepository(self._directory)
        git.prepare()
        branch = self._remote.branch(self._directory)
        self._remote.fetch(self._directory)
        git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        there = f"refs/remotes/origin/{branch}"
        if git.run("for-each-ref", there).strip():
            git.run("reset", "--quiet", "--hard", there)
        elif git.head():
            git.run("update-ref", "-d", f"refs/heads/{branch}")
            git.run("read-tree", "--empty")
        yield branch


def _overtaken(error: ZoetropeError) -> bool:
    """Whether somebody else pushed first."""
    cause = error.__cause__
    return isinstance(cause, GitError) and any(
        sign in cause.said for sign in ("rejected", "fetch first", "cannot lock")
    )
