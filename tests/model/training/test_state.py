"""Training states on disk: what is damaged is not resumed from, whatever was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zoetrope.model.training.state import load_state, save_state


def save(folder: Path, step: int, digest: str = "d") -> None:
    parts = {"model": {"weight": torch.full((3,), float(step))}, "optimizer": {"0.step": torch.tensor(float(step))}}
    save_state(folder, step, digest, parts, {"final_loss": float("nan"), "curve": {"loss": [[step, 0.1]]}})


def test_the_newest_state_of_the_digest_comes_back(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]
    told: list[str] = []
    found = load_state(tmp_path, "d", told.append)
    assert found is not None
    step, parts, notes = found
    assert (step, parts["model"]["weight"].tolist(), notes["curve"]) == (3, [3.0] * 3, {"loss": [[3, 0.1]]})
    assert load_state(tmp_path, "other", told.append) is None
    assert told == []


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 0.8, 0.999])
def test_one_flipped_bit_falls_back_to_the_state_before_and_says_so(tmp_path: Path, name: str, share: float) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-000000002" / name
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    path.write_bytes(data)
    told: list[str] = []
    found = load_state(tmp_path, "d", told.append)
    assert found is not None
    assert (found[0], found[1]["model"]["weight"].tolist()) == (1, [1.0] * 3)
    assert len(told) == 1
    assert told[0].startswith("training state step-000000002 is damaged (")
    assert told[0].endswith("); the one before it is taken")


def test_a_missing_file_and_a_marker_without_digest_are_damage(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "step-000000002" / "model.safetensors").unlink()
    (tmp_path / "step-000000001" / "state.json").write_text('{"step": 1, "digest": "d", "notes": {}}')
    told: list[str] = []
    assert load_state(tmp_path, "d", told.append) is None
    assert len(told) == 2
