"""The git repository behind the registry, run as the `git` program and free of any personal configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.infra.errors import ZoetropeError

if TYPE_CHECKING:
    import psutil

TIMEOUT_SECONDS = 5.0  # how long another git command, such as one that outlived its run, may take to end

# The registry's commits are made by a program: no signing, no hooks, no personal identity, no prompts.
_SETTINGS = {
    "user.name": "zoetrope",
    "user.email": "zoetrope@localhost",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
    "core.hooksPath": os.devnull,
    "core.autocrlf": "false",
    "gc.auto": "0",  # a background gc would outlive the run
    "init.defaultBranch": "main",
}


class GitError(ZoetropeError):
    """A git command failed.

    Attributes:
        said: all that it said on standard error.
    """

    def __init__(self, headline: str, hint: str, said: str) -> None:
        super().__init__(headline, hint)
        self.said = said


class GitRepository:
    """Commands on one repository.

    Args:
        directory: its working tree, or itself where it is bare.
        environment: variables for git beside the caller's own, such as a login.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._environment = dict(environment or {})

    def run(self, *arguments: str) -> str:
        """Runs `git ARGUMENTS` in the repository and returns what it prints; GitError where it fails."""
        done = self._call(*arguments)
        if done.returncode:
            reason = _reason(done.stderr) or f"exit code {done.returncode}"
            raise GitError(
                f"dataset registry {self.directory}: `git {arguments[0]}` failed: {reason}",
                f"look at it with `git -C {self.directory} status`",
                said=done.stderr,
            )
        return done.stdout

    def head(self) -> str:
        """The present commit, empty in a repository without any."""
        return self._call("rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()

    def prepare(self) -> None:
        """Creates the repository where it is absent or half made, and removes the locks of killed commands.

        The caller holds the registry's own lock, so a lock file belongs to a dead process unless a person
        works in the repository by hand; that is looked for first.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        folder = self.directory / ".git"
        if folder.is_dir():
            self._wait_for_others()
            for lock in sorted(folder.rglob("*.lock")):
                lock.unlink(missing_ok=True)
        if self._call("rev-parse", "--git-dir").stdout.strip() != ".git":
            self.run("init", "--quiet")

    def _wait_for_others(self) -> None:
        import psutil

        _, alive = psutil.wait_procs(_git_at_work(self.directory), timeout=TIMEOUT_SECONDS)
        if alive:
            raise ZoetropeError(
                f"dataset registry {self.directory}: a git command (process {alive[0].pid}) is at work in it",
                "wait for it to end, then run the same command again",
                retryable=True,
            )

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        settings += ["-c", f"safe.directory={self.directory}"]
        try:
            return subprocess.run(
                ["git", *settings, *arguments],
                cwd=self.directory,
                env=_environment() | self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise ZoetropeError("dataset registry: the program `git` is not there", "install git") from error


def _reason(said: str) -> str:
    """The line that says why: git's own fault where there is one, not the advice that follows it."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("fatal:", "error:")) or "[rejected]" in line]
    return (faults or lines or [""])[-1]


def _environment() -> dict[str, str]:
    """The caller's environment without any GIT_ variable, which would lead into another repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def _git_at_work(directory: Path) -> list[psutil.Process]:
    """Running git commands whose working directory is in the repository."""
    import psutil

    found = []
    inside = str(directory.resolve())
    for process in psutil.process_iter(["name"]):
        if not str(process.info["name"]).startswith("git"):
            continue
        try:
            place = process.cwd()
        except psutil.Error:
            continue  # ended meanwhile, or of another user
        if place == inside or place.startswith(inside + os.sep):
            found.append(process)
    return found
