"""The index as mapped columns says what the table says, whatever its order, pieces and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.data.datasets import Objects, manifest_of
from zoetrope.model.data import columns as module
from zoetrope.model.data.columns import open_columns

ROW = st.fixed_dictionaries(
    {
        "clip_id": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5),
        "bucket": st.sampled_from(["8px_1f", "8px_16f"]),
        "shard": st.integers(0, 3),
        "split": st.sampled_from(["train", "held_out"]),
        "caption": st.text(max_size=10),
        "t5_tokens": st.integers(0, 512),
        "checksum_latent": st.none() | st.integers(-(2**63), 2**63 - 1),
        "checksum_t5": st.none() | st.integers(-(2**63), 2**63 - 1),
    }
)
SCHEMA = pyarrow.schema(
    {name: pyarrow.string() for name in ("clip_id", "bucket", "split", "caption")}
    | {name: pyarrow.int64() for name in ("shard", "t5_tokens", "checksum_latent", "checksum_t5")}
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, max_size=12, unique_by=lambda row: (row["clip_id"], row["bucket"])))
@pytest.mark.parametrize("piece", [3, 1 << 16])
def test_columns_say_what_the_table_says(
    tmp_path_factory: pytest.TempPathFactory, piece: int, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    manifest = manifest_of(folder, pyarrow.Table.from_pylist(rows, schema=SCHEMA), [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE_ROWS", piece)
        columns = open_columns(manifest, Objects(folder).read, None, folder)
    assert len(columns) == len(rows)
    for at, row in enumerate(rows):
        assert (columns.clip_ids[at], columns.captions[at]) == (row["clip_id"], row["caption"])
        assert (columns.shard[at], columns.t5_tokens[at]) == (row["shard"], row["t5_tokens"])
        known = {name: row[f"checksum_{name}"] for name in ("latent", "t5")}
        assert columns.checksums(at) == {name: value for name, value in known.items() if value is not None}
    ids = sorted({row["clip_id"] for row in rows})  # code points sort as their UTF-8 does
    assert columns.clip.tolist() == [ids.index(row["clip_id"]) for row in rows]
    for bucket in ("8px_1f", "8px_16f", "9px"):
        for split in ("train", "held_out"):
            chosen = [row["clip_id"] for row in rows if (row["bucket"], row["split"]) == (bucket, split)]
            assert [columns.clip_ids[at] for at in columns.rows(bucket, split)] == sorted(chosen)
            assert columns.counts().get(f"{bucket}/{split}", 0) == len(chosen)


def test_a_local_index_is_read_where_it_lies_and_compared(tmp_path: Path) -> None:
    row = {"clip_id": "a", "bucket": "8px", "shard": 0, "split": "train", "caption": "c", "t5_tokens": 1}
    manifest = manifest_of(tmp_path, pyarrow.Table.from_pylist([row]), [])
    read = Objects(tmp_path).read
    made = open_columns(manifest, read, lambda uri: tmp_path / uri, tmp_path / "made")
    assert (made.clip_ids[0], made.checksums(0)) == ("a", {})
    assert not list((tmp_path / "made").rglob("*.parquet"))
    with (tmp_path / "index").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ValueError, match=r"^index: content does not match its digest"):
        open_columns(manifest, read, lambda uri: tmp_path / uri, tmp_path / "again")
