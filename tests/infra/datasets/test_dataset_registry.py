"""The registry of dataset versions, read back with git and with DVC itself."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from zoetrope.infra.datasets import DatasetRegistry
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_json
from zoetrope.infra.store import Store, open_store, put_content, put_json


def make_dataset(store: Store, *payloads: bytes, name: str = "nano") -> str:
    """A dataset manifest with one shard per payload; returns its reference."""
    shards: list[dict[str, Any]] = []
    for number, data in enumerate(payloads):
        md5 = hashlib.md5(data).hexdigest()
        uri = store.put_bytes(f"dvc/files/md5/{md5[:2]}/{md5[2:]}", data)
        path = f"shards/{number:05d}.safetensors"
        shards.append({"path": path, "md5": md5, "bytes": len(data), "uri": uri})
    index = put_content(store, b"index of " + b",".join(payloads), ".parquet")
    content = [{key: shard[key] for key in ("path", "md5", "bytes")} for shard in shards]
    manifest = {
        "schema": "zoetrope.dataset.v1",
        "name": name,
        "digest": digest_json(content),
        "shards": shards,
        "index": str(index),
    }
    return str(put_json(store, manifest))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "state" / "store")


@pytest.fixture
def registry(tmp_path: Path, store: Store) -> DatasetRegistry:
    return DatasetRegistry(tmp_path / "state" / "datasets", store)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "datasets"


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_versions_are_numbered_and_equal_digest_gives_the_same_tag(registry: DatasetRegistry, store: Store) -> None:
    first = registry.adopt(make_dataset(store, b"one"), "run-1")
    second = registry.adopt(make_dataset(store, b"one", b"two"), "run-2")
    again = registry.adopt(make_dataset(store, b"one"), "run-3")
    other = registry.adopt(make_dataset(store, b"three", name="other"), "run-4")
    assert [version.tag for version in registry.versions()] == ["nano-v1", "nano-v2", "other-v1"]
    assert again == first
    assert (first.tag, second.tag, other.tag) == ("nano-v1", "nano-v2", "other-v1")
    assert first.digest != second.digest


def test_a_version_is_found_by_tag_name_commit_and_latest(registry: DatasetRegistry, store: Store) -> None:
    first = registry.adopt(make_dataset(store, b"one"), "run-1")
    second = registry.adopt(make_dataset(store, b"two"), "run-2")
    other = registry.adopt(make_dataset(store, b"three", name="aaa"), "run-3")
    assert registry.resolve("nano-v1") == first
    assert registry.resolve("nano") == second
    assert registry.resolve(first.revision[:10]) == first
    assert registry.resolve("latest") == other


def test_an_unknown_version_names_the_nearest_and_the_way_to_list(registry: DatasetRegistry, store: Store) -> None:
    with pytest.raises(ZoetropeError, match="holds none yet"):
        registry.resolve("nano-v1")
    registry.adopt(make_dataset(store, b"one"), "run-1")
    with pytest.raises(ZoetropeError) as caught:
        registry.resolve("nan-v1")
    assert "nano-v1" in caught.value.hint
    assert "zoetrope data versions" in caught.value.hint


def test_dvc_itself_pulls_opens_and_finds_nothing_changed(
    registry: DatasetRegistry, store: Store, directory: Path, tmp_path: Path
) -> None:
    registry.adopt(make_dataset(store, b"one", b"two" * 1000), "run-1")
    registry.adopt(make_dataset(store, b"one", b"three"), "run-2")
    clone = tmp_path / "state" / "clone"
    subprocess.run(["git", "clone", "--quiet", str(directory), str(clone)], check=True)
    git(clone, "checkout", "--quiet", "nano-v1")
    program = (
        "import dvc.api, dvc.cli\n"
        "assert dvc.cli.main(['pull', '--quiet']) == 0\n"
        "path = 'datasets/nano/shards/00001.safetensors'\n"
        "assert open(path, 'rb').read() == b'two' * 1000\n"
        "assert dvc.api.read(path, rev='nano-v2', mode='rb') == b'three'\n"
        "assert dvc.cli.main(['status']) == 0\n"
        "assert dvc.cli.main(['status', '--cloud']) == 0\n"
    )
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "DVC_SITE_CACHE_DIR": str(tmp_path / "s"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Data and pipelines are up to date" in done.stdout
    assert "in sync" in done.stdout
    assert git(clone, "status", "--porcelain") == ""


def test_with_the_store_in_s3_dvc_pulls_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("ZOETROPE_S3_ENDPOINT", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        Minio(f"{host}:{port}", "key", "hush", secure=False, region="us-east-1").make_bucket("bucket")
        store = open_store("s3://bucket/some/prefix")
        DatasetRegistry(tmp_path / "datasets", store).adopt(make_dataset(store, b"one", b"two"), "run-1")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "pull"],
            cwd=tmp_path / "datasets",
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "datasets/datasets/nano/shards/00001.safetensors").read_bytes() == b"two"
    assert "hush" not in (tmp_path / "datasets/.dvc/config").read_text()


def test_manifest_in_the_commit_is_the_referenced_one(registry: DatasetRegistry, store: Store, directory: Path) -> None:
    reference = make_dataset(store, b"one")
    version = registry.adopt(reference, "run-1")
    committed = git(directory, "show", "nano-v1:datasets/nano/manifest.json").encode()
    assert hashlib.sha256(committed).hexdigest() == reference.rpartition(":")[2]
    assert version.reference == reference
    assert json.loads(committed)["digest"] == version.digest
    assert git(directory, "status", "--porcelain") == ""


def test_a_killed_adopt_is_repaired_by_the_next(registry: DatasetRegistry, store: Store, directory: Path) -> None:
    first = registry.adopt(make_dataset(store, b"one"), "run-1")
    second = registry.adopt(make_dataset(store, b"two"), "run-2")
    # killed between commit and tag, with the locks of git still lying about and a file half written
    git(directory, "tag", "--delete", "nano-v2")
    (directory / ".git" / "index.lock").touch()
    (directory / ".git" / "refs" / "tags" / "nano-v2.lock").touch()
    (directory / "datasets" / "nano" / "manifest.json").write_text("{half")
    third = registry.adopt(make_dataset(store, b"three"), "run-3")
    assert registry.versions() == [first, second, third]
    assert third.tag == "nano-v3"
    assert git(directory, "status", "--porcelain") == ""


@pytest.mark.parametrize("call", range(1, 12))
def test_killed_at_any_git_command_the_same_adopt_finishes(
    registry: DatasetRegistry, store: Store, directory: Path, tmp_path: Path, call: int
) -> None:
    reference = make_dataset(store, b"one")
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    counter = tmp_path / "calls"
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    shim.write_text(
        f"#!/bin/sh\necho x >> {counter}\n"
        f'if [ $(wc -l < {counter}) -eq {call} ]; then kill -9 $PPID; exit 1; fi\nexec {real} "$@"\n'
    )
    shim.chmod(0o755)
    program = (
        "import sys\nfrom pathlib import Path\nfrom zoetrope.infra.datasets import DatasetRegistry\n"
        "from zoetrope.infra.store import open_store\n"
        "DatasetRegistry(Path(sys.argv[1]), open_store(sys.argv[2])).adopt(sys.argv[3], 'run-1')\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(directory), store.root, reference],
        env={**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert registry.adopt(reference, "run-1").tag == "nano-v1"
    assert [version.tag for version in registry.versions()] == ["nano-v1"]
    assert git(directory, "rev-list", "--count", "HEAD") == "1"


def test_a_living_git_command_keeps_its_lock(
    registry: DatasetRegistry, store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoetrope.infra.datasets.git.TIMEOUT_SECONDS", 0.1)
    registry.adopt(make_dataset(store, b"one"), "run-1")
    lock = directory / ".git" / "index.lock"
    lock.touch()
    other = subprocess.Popen(["git", "cat-file", "--batch"], cwd=directory, stdin=subprocess.PIPE)
    try:
        with pytest.raises(ZoetropeError, match=f"process {other.pid}") as caught:
            registry.adopt(make_dataset(store, b"two"), "run-2")
        assert caught.value.retryable
        assert lock.exists()
    finally:
        other.communicate()
    assert registry.adopt(make_dataset(store, b"two"), "run-2").tag == "nano-v2"


def test_missing_or_cut_shards_make_no_version(registry: DatasetRegistry, store: Store) -> None:
    reference = make_dataset(store, b"one", b"two")
    md5 = hashlib.md5(b"two").hexdigest()
    store.put_bytes(f"dvc/files/md5/{md5[:2]}/{md5[2:]}", b"tw")
    with pytest.raises(ZoetropeError, match=r"1 of 2 shards .* first shards/00001\.safetensors"):
        registry.adopt(reference, "run-1")
    assert registry.versions() == []


def test_personal_git_configuration_is_not_used(
    registry: DatasetRegistry, store: Store, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[user]\nname = somebody\n[commit]\ngpgsign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    registry.adopt(make_dataset(store, b"one"), "run-1")
    monkeypatch.delenv("GIT_DIR")
    assert git(directory, "log", "-1", "--format=%an") == "zoetrope"
    assert not (tmp_path / "elsewhere").exists()


def test_another_product_is_refused(registry: DatasetRegistry, store: Store) -> None:
    reference = str(put_json(store, {"schema": "zoetrope.clips.v1"}))
    with pytest.raises(ZoetropeError, match=r"zoetrope\.dataset\.v1"):
        registry.adopt(reference, "run-1")
