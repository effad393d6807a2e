"""Results that are known for a key: found, checked, named where they differ."""

from pathlib import Path
from typing import Any

import pytest

from zoetrope.infra.context import StepResult
from zoetrope.infra.keys import KeyParts, differences, find_result, known_results, libraries, maker_of, store_result
from zoetrope.infra.keys.results import entry_key, named_uris, problem
from zoetrope.infra.references import Reference
from zoetrope.infra.store import Store, open_store, put_content, put_json

PARTS = KeyParts(
    step="curate",
    config={"cuts": {"ratio": 3.0}, "max_seconds": 8.0, "buckets": [{"height": 64, "frames": 16}]},
    inputs={"sources": "a" * 64},
    operators={"zoetrope.components.curate.cuts": "1" * 16},
    libraries={"av": "18.0.0"},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def made(store: Store, parts: KeyParts = PARTS, run: str = "run-1") -> StepResult:
    table = put_content(store, b"table", ".parquet")
    shard = put_content(store, b"shard", ".safetensors")
    manifest = {
        "table": str(table),
        "shards": [{"uri": shard.uri, "sha256": shard.digest, "bytes": 5}],
        "counts": {"kept": 3},
    }
    result = StepResult(
        put_json(store, manifest), "3 clips", {"clips": 3.0}, artifacts={"table": table}, page="<p>3</p>",
        files={"a/b.json": b"{}"},
    )  # fmt: skip
    record = {
        "key_figure": "3 clips", "metrics": {"clips": 3.0}, "parameters": {}, "gates": [], "page": "<p>3</p>",
        "artifacts": {"table": str(table)},
    }  # fmt: skip
    store_result(store, parts, run, str(put_json(store, record)), result)
    return result


def path_of(store: Store, uri: str) -> Path:
    path = store.local_path(uri)
    assert path is not None
    return path


def test_a_result_is_found_by_its_key_alone_and_is_what_the_step_returned(store: Store) -> None:
    result = made(store)
    known = find_result(store, "curate", PARTS.digest())
    assert known is not None
    assert known.run_id == "run-1"
    assert known.step_result(store) == result
    other = PARTS.model_copy(update={"libraries": {"av": "18.0.1"}})
    assert find_result(store, "curate", other.digest()) is None
    assert find_result(store, "encode", PARTS.digest()) is None


def test_the_last_result_of_a_key_counts(store: Store) -> None:
    made(store)
    made(store, run="run-2")
    assert [known.run_id for known in known_results(store, "curate")] == ["run-2"]


@pytest.mark.parametrize("what", ["manifest", "table", "shard", "record", "files", "shorter"])
def test_a_result_whose_content_is_gone_or_changed_is_none(store: Store, what: str) -> None:
    made(store)
    (known,) = known_results(store, "curate")
    table, shard = (path_of(store, uri) for uri in sorted(known.contents, key=lambda uri: "shard" in uri))
    path = {
        "manifest": path_of(store, Reference.parse(known.product).uri),
        "record": path_of(store, Reference.parse(known.record).uri),
        "files": path_of(store, Reference.parse(known.files["a/b.json"]).uri),
        "table": table,
        "shard": shard,
        "shorter": shard,
    }[what]
    if what == "shorter":
        path.write_bytes(b"shar")
        assert "4 bytes instead of 5" in problem(store, known)
    elif what in ("manifest", "record"):
        data = bytearray(path.read_bytes())
        data[3] ^= 1
        path.write_bytes(bytes(data))
        assert "does not match its digest" in problem(store, known)
    else:
        path.unlink()
        assert "not in the store" in problem(store, known)
    assert find_result(store, "curate", PARTS.digest()) is None
    made(store)  # computing it again mends what was damaged
    assert find_result(store, "curate", PARTS.digest()) is not None


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b'{"schema": "zoetrope.result.v1", "step": 3}'])
def test_a_damaged_entry_is_no_result_and_is_named(store: Store, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    made(store)
    uri = entry_key("curate", PARTS.digest())
    store.put_bytes(uri, text)
    assert find_result(store, "curate", PARTS.digest()) is None
    assert f"{uri} is damaged and not used" in caplog.text


def test_an_object_was_made_by_the_step_that_did_not_read_it(store: Store) -> None:
    table = put_content(store, b"table", ".parquet")
    clips = made(store)
    manifest = put_json(store, {"clips": str(clips.product), "table": str(table), "text": "x"})
    read = KeyParts(step="caption", config={}, inputs={"clips": clips.product.digest}, operators={}, libraries={})
    store_result(store, read, "run-1", str(put_json(store, {})), StepResult(manifest, ""))
    assert maker_of(store, table) == "curate"
    assert maker_of(store, clips.product) == "curate"
    assert maker_of(store, manifest) == "caption"
    assert maker_of(store, put_content(store, b"other", "")) == ""


def test_a_manifest_names_references_and_shards() -> None:
    digest = "0" * 64
    value: dict[str, Any] = {"a": f"x@sha256:{digest}", "b": ["text", {"c": f"y@sha256:{digest}"}], "d": 3}
    value["shards"] = [{"uri": "z", "sha256": digest}]
    value["elsewhere"] = {"uri": "https://example.org"}
    assert named_uris(value) == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("change", "phrases"),
    [
        ({"config": PARTS.config | {"cuts": {"ratio": 4.0}}}, ["cuts.ratio: 3.0 -> 4.0"]),
        ({"config": PARTS.config | {"buckets": [{"frames": 16, "height": 64}]}}, []),
        (
            {"config": PARTS.config | {"buckets": [{"frames": 17, "height": 64}]}},
            ['buckets: [{"frames":16,"height":64}] -> [{"frames":17,"height":64}]'],
        ),
        ({"config": PARTS.config | {"max_seconds": None}}, ["max_seconds: 8.0 -> null"]),
        ({"inputs": {"sources": "b" * 64}}, ["input sources changed"]),
        ({"operators": {}}, ["operator zoetrope.components.curate.cuts is gone"]),
        ({"libraries": {"av": "18.0.0", "numpy": "2.4"}}, ["library numpy: none -> 2.4"]),
        ({"libraries": {"av": "18.1.0"}}, ["library av: 18.0.0 -> 18.1.0"]),
        ({"content": {"source.folder": "1"}}, ["content source.folder is new"]),
        ({}, []),
    ],
)
def test_differences_are_named(change: dict[str, Any], phrases: list[str]) -> None:
    other = PARTS.model_copy(update=change)
    assert differences(other, PARTS) == phrases
    assert (other.digest() == PARTS.digest()) == (not phrases)


def test_versions_are_those_installed_or_those_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoetrope.infra.keys import versions

    installed = libraries(["torch", "av"])
    monkeypatch.setattr(versions, "_installed", lambda name: "")
    assert {name: text.partition("+")[0] for name, text in installed.items()} == libraries(["torch", "av"])
    with pytest.raises(ValueError, match=r"nothing-like-it: neither installed nor in zoetrope\.lock"):
        libraries(["nothing-like-it"])
