"""`zoetrope data adopt RUN --remote`: what a run of a cluster made becomes a version for everybody."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.references import digest_json
from zoetrope.infra.store import Store, open_store, put_content, put_json


def dataset(store: Store, data: bytes) -> str:
    md5 = hashlib.md5(data).hexdigest()
    uri = store.put_bytes(f"dvc/files/md5/{md5[:2]}/{md5[2:]}", data)
    shard = {"path": "shards/00000.safetensors", "md5": md5, "bytes": len(data), "uri": uri}
    index = put_content(store, b"index", ".parquet")
    manifest = {"schema": "zoetrope.dataset.v1", "name": "nano", "digest": digest_json(md5), "index": str(index)}
    return str(put_json(store, manifest | {"shards": [shard]}))


def test_a_version_is_rehearsed_pushed_and_listed(
    kubeflow: Any, zoetrope: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, state = tmp_path / "remote.git", ("--store", str(tmp_path / "state"))
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    remote = ("--remote", f"file://{bare}")
    store = open_store(tmp_path / "store")
    said = zoetrope("data", "adopt", "r1", *remote, *state)
    assert (said.code, said.problem) == (2, "the store of the cluster is not named")
    monkeypatch.setenv("ZOETROPE_STORE", store.root)
    said = zoetrope("data", "adopt", "r1", *remote, *state)
    assert (said.code, "has left no dataset" in said.problem) == (2, True)
    product = dataset(store, b"one")
    store.put_bytes("runs/r1/steps/encode.json", json.dumps({"record": "", "product": product}).encode())
    said = zoetrope("data", "adopt", "r1", *remote, *state)
    assert said.out.startswith("nano-v1  digest ") and "nothing was pushed" in said.err
    assert zoetrope("data", "versions", *remote, "--json").out.strip() == "[]"
    assert zoetrope("data", "adopt", "r1", *remote, *state, "--push").out.startswith("nano-v1  digest ")
    (version,) = json.loads(zoetrope("data", "versions", *remote, "--json").out)
    assert (version["tag"], version["reference"]) == ("nano-v1", product)


def test_unsafe_remotes_are_one_line(kubeflow: Any, zoetrope: Any) -> None:
    for url in ("ext::sh -c id", "--upload-pack=id"):
        said = zoetrope("data", "versions", f"--remote={url}")
        assert (said.code, "not a URL" in said.problem or "scheme" in said.problem) == (2, True)
    said = zoetrope("data", "adopt", "r1", "--push")
    assert (said.code, said.problem) == (2, "--push sends a version to a git remote")
