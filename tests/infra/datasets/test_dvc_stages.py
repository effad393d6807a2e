"""dvc.yaml and params.yaml agree with the steps and with the recipe."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoetrope.infra.keys.closure import closure, installed
from zoetrope.pipelines.definition.step_table import DATA_STEPS, STEPS, made_by
from zoetrope.pipelines.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[3]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())


def options(command: str, name: str) -> list[str]:
    words = shlex.split(command)
    return [words[at + 1] for at, word in enumerate(words) if word == name]


def outputs(stage: dict[str, Any]) -> list[str]:
    return [path for entry in stage["outs"] for path in entry]


def test_the_stages_are_the_data_steps() -> None:
    assert tuple(STAGES) == DATA_STEPS


@pytest.mark.parametrize("name", DATA_STEPS)
def test_a_stage_reads_what_its_step_reads(name: str) -> None:
    stage = STAGES[name]
    given = dict(text.split("=") for text in options(stage["cmd"], "--input"))
    expected = {key: outputs(STAGES[step])[0] for key, step in made_by(name).items()}
    assert given == expected
    assert set(given.values()) <= set(stage["deps"])
    assert options(stage["cmd"], "--output") == outputs(stage)


@pytest.mark.parametrize("name", DATA_STEPS)
def test_what_a_stage_depends_on_is_there(name: str) -> None:
    made = {path for stage in STAGES.values() for path in outputs(stage)}
    assert [path for path in STAGES[name]["deps"] if path not in made and not (ROOT / path).exists()] == []
    assert set(STAGES[name]["params"]) <= set(PARAMS)


@pytest.mark.parametrize("name", DATA_STEPS)
def test_a_stage_depends_on_the_code_in_its_steps_key(name: str) -> None:
    tree = installed()
    modules = [module for each in closure(STEPS[name].module, tree) if (module := tree.module(each))]
    files = {str(module.path.relative_to(tree.root)) for module in modules}
    deps = STAGES[name]["deps"]
    assert [file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)] == []
    assert {dep for dep in deps if dep.startswith("infra/")} <= files


def flat(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        found += flat(value, f"{path}.") if isinstance(value, dict) else [f"{path}={json.dumps(value)}"]
    return found


def test_params_repeat_the_recipe() -> None:
    assert load_recipe("nano", flat(PARAMS)) == load_recipe("nano", [])


def test_dvc_accepts_the_stages(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", tmp_path / ".dvc" / "config")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DVC_SITE_CACHE_DIR": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.split()) == DATA_STEPS
