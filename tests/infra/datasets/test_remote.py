"""The registry behind a git remote: real repositories, a real git daemon, two people who push at once."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from zoetrope.infra.datasets import RemoteClone, RemoteRegistry, registry_files, resolve_dataset
from zoetrope.infra.datasets.remote_url import GitCredentials, checked_remote
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, get_bytes, get_json, open_store


def _sibling(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_dataset = _sibling("test_dataset_registry").make_dataset


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


@pytest.fixture
def url(bare: Path) -> str:
    return f"file://{bare}"


def clone(tmp_path: Path, url: str, store: Store, name: str = "clone") -> RemoteClone:
    return RemoteClone(tmp_path / name, url, store, GitCredentials())


def test_a_pushed_version_is_read_without_a_checkout(tmp_path: Path, url: str, store: Store) -> None:
    assert RemoteRegistry(url).versions() == []
    mine = clone(tmp_path, url, store)
    first = mine.adopt(make_dataset(store, b"one"), "run-1", push=True)
    second = mine.adopt(make_dataset(store, b"two"), "run-2", push=True)
    other = mine.adopt(make_dataset(store, b"three", name="aaa"), "run-3", push=True)
    registry = RemoteRegistry(url)
    assert registry.versions() == [other, first, second]
    assert registry.resolve("nano-v1") == first
    assert registry.resolve("nano") == second
    assert registry.resolve("latest") == other
    assert registry.resolve(first.revision[:9]) == first
    with pytest.raises(ZoetropeError, match="'nano-v9' is not in file") as caught:
        registry.resolve("nano-v9")
    assert "nearest: nano-v" in caught.value.hint


def test_without_push_the_remote_stays_and_the_next_one_starts_from_it(tmp_path: Path, url: str, store: Store) -> None:
    mine = clone(tmp_path, url, store)
    assert mine.adopt(make_dataset(store, b"one"), "run-1", push=False).tag == "nano-v1"
    assert RemoteRegistry(url).versions() == []
    assert mine.adopt(make_dataset(store, b"two"), "run-2", push=True).tag == "nano-v1"
    assert [version.tag for version in RemoteRegistry(url).versions()] == ["nano-v1"]


def test_the_same_dataset_keeps_its_tag_whoever_adopts_it(tmp_path: Path, url: str, store: Store) -> None:
    reference = make_dataset(store, b"one")
    mine = clone(tmp_path, url, store).adopt(reference, "run-1", push=True)
    theirs = clone(tmp_path, url, store, "another").adopt(reference, "run-2", push=True)
    assert theirs == mine
    assert RemoteRegistry(url).versions() == [mine]


def test_who_is_overtaken_takes_the_next_number(
    tmp_path: Path, bare: Path, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = clone(tmp_path, url, store), clone(tmp_path, url, store, "another")
    mine.adopt(make_dataset(store, b"zero"), "run-0", push=True)
    call = mine._remote.call

    def overtaken(directory: Path, *arguments: str) -> str:
        if arguments[0] == "push" and len(RemoteRegistry(url).versions()) == 1:
            theirs.adopt(make_dataset(store, b"theirs"), "run-t", push=True)
        return call(directory, *arguments)

    monkeypatch.setattr(mine._remote, "call", overtaken)
    assert mine.adopt(make_dataset(store, b"mine"), "run-m", push=True).tag == "nano-v3"
    assert [version.tag for version in RemoteRegistry(url).versions()] == ["nano-v1", "nano-v2", "nano-v3"]


def test_what_is_pushed_can_be_pulled_with_dvc_files(tmp_path: Path, url: str, bare: Path, store: Store) -> None:
    reference = make_dataset(store, b"one")
    version = clone(tmp_path, url, store).adopt(reference, "run-1", push=True)
    files = registry_files(get_json(store, reference))
    assert sorted(files) == ["datasets/nano/.gitignore", "datasets/nano/manifest.json", "datasets/nano/shards.dvc"]
    for name, data in files.items():
        shown = subprocess.run(
            ["git", "-C", str(bare), "show", f"{version.tag}:{name}"], capture_output=True, check=True
        )
        assert shown.stdout == data
    assert files["datasets/nano/manifest.json"] == get_bytes(store, reference)


def test_a_run_resolves_its_dataset_once(tmp_path: Path, url: str, store: Store) -> None:
    reference = make_dataset(store, b"one")
    version = clone(tmp_path, url, store).adopt(reference, "run-1", push=True)
    settings = Settings(dataset_remote=url, store=store.root)
    assert resolve_dataset(" latest ", settings) == version
    assert resolve_dataset("nano-v1", settings).revision == version.revision
    named = resolve_dataset(reference, Settings(store=store.root))
    assert (named.reference, named.tag, named.digest) == (reference, "", version.digest)
    assert resolve_dataset(reference, Settings()).reference == reference
    with pytest.raises(ZoetropeError, match="no dataset remote is set"):
        resolve_dataset("latest", Settings())


@pytest.fixture
def daemon(tmp_path: Path, bare: Path) -> Iterator[str]:
    """A git server for the folder of the remote; `free` is a port that was free a moment ago."""
    (bare / "git-daemon-export-ok").touch()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--verbose", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    command += [f"--base-path={bare.parent}", "--informative-errors", "--log-destination=stderr"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Ready to rumble" in line:
            break
    yield f"git://127.0.0.1:{port}"
    process.terminate()
    process.wait()
    process.stderr.close()


def test_a_git_server_is_read(tmp_path: Path, url: str, daemon: str, store: Store) -> None:
    version = clone(tmp_path, url, store).adopt(make_dataset(store, b"one"), "run-1", push=True)
    assert RemoteRegistry(f"{daemon}/remote.git").resolve("latest") == version
    with pytest.raises(ZoetropeError, match="there is no such repository"):
        RemoteRegistry(f"{daemon}/other.git").versions()


def test_a_server_that_is_away_may_come_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ZoetropeError, match="connection refused") as caught:
        RemoteRegistry(f"git://127.0.0.1:{port}/remote.git").versions()
    assert caught.value.exit_code == 75
    with pytest.raises(ZoetropeError, match="there is no such repository") as caught:
        RemoteRegistry(f"file://{tmp_path}/nowhere.git").versions()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c touch% /tmp/x",
        "ext::id",
        "--upload-pack=id",
        "-oProxyCommand=id",
        "ssh://-oProxyCommand=id/repository",
        "ssh://git@-oProxyCommand=id/repository",
        "ssh://-lroot@host/repository",
        "ssh://host:port/repository",
        "http://host/repository.git",
        "ftp://host/repository.git",
        "fd::17",
        "/folder",
        "git@host:repository.git",
        "file://host/folder",
        "https://host/repository.git?x=1",
        "https://host",
        "https://host/re\npository",
        "https://ho st/repository",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(ZoetropeError, match="dataset remote"):
        checked_remote(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ZoetropeError, match="holds a password") as caught:
        checked_remote("https://someone:hunter2@host/repository.git")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://host/a.git", "https://host:8443/a", "ssh://git@host:2222/a.git", "git://10.0.0.1/a", "file:///srv/a.git"],
)
def test_plain_urls_pass(url: str) -> None:
    assert checked_remote(url) == url


def test_secrets_stand_in_no_command_line_and_are_for_one_host(tmp_path: Path) -> None:
    given = GitCredentials(username="u", token="hunter2", ssh_key="KEY", known_hosts="host ssh-ed25519 A")
    variables = given.environment("https://host:8443/a.git", tmp_path)
    assert variables["GIT_CONFIG_KEY_0"] == "http.https://host:8443/.extraHeader"
    assert "GIT_CONFIG_COUNT" not in given.environment("ssh://host/a.git", tmp_path)
    assert "hunter2" not in variables["GIT_SSH_COMMAND"] and "KEY" not in variables["GIT_SSH_COMMAND"]
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert "hunter2" not in repr(given) and "KEY" not in repr(given)
