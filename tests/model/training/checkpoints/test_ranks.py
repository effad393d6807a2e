"""Several ranks, and processes that are killed; `ranks.py` does it, in one process that loads PyTorch and its forks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.training.checkpoints.ranks import POINTS

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.model.training.checkpoints.ranks", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((folder / "ranks" / f"rank-{rank}.json").read_text()) for rank in range(4)]
    return json.loads((folder / "killed.json").read_text()), ranks


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_anywhere_leaves_the_newest_complete_one(seen, point):
    exit_code, step, told, right, left = seen[0][point]
    assert exit_code == -9
    assert step == (2 if point == "sweep" else 1)
    assert right, "the training did not go on bitwise"
    assert left == ["step-000000003"], "what the kill left was not removed"
    incomplete = "checkpoint of step 2: complete.json is missing, so it is incomplete; the one before it is taken"
    assert told == ([] if point in ("sweep", "first file") else [incomplete])


def test_ranks_and_meshes_change_between_runs(seen):
    distance = seen[1][0]["reshard"]
    assert distance < 1e-5


def test_all_ranks_write_a_part_of_what_all_have(seen):
    files = seen[1][0]["meshes"]
    assert {name[:10] for name in files} == {f"rank-0000{rank}" for rank in range(4)}


def test_all_ranks_take_the_same_one_where_the_file_of_one_is_damaged(seen):
    steps, told = zip(*(rank["damage"] for rank in seen[1]), strict=True)
    assert steps == (1, 1, 1, 1)
    assert told[0] == ["checkpoint of step 2: rank-00002-000.bin does not match its digest; the one before it is taken"]
    assert told[1:] == ([], [], [])


def test_a_fault_of_one_rank_is_known_to_all(seen):
    for rank, found in enumerate(seen[1]):
        failures, told, raised, _ = found["faults"]
        assert failures == ["disk full: 1 MB needed on rank 3", None]
        assert raised == "no answer"
        assert len(told) == (2 if rank == 0 else 0)
    assert seen[1][0]["faults"][3] == 0, "the half written checkpoint was not removed"


def test_shards_are_exported_to_the_released_layout_and_imported_on_another_mesh(seen):
    for rank in seen[1]:
        assert rank["export"] == [True, True, "FileNotFoundError"]
