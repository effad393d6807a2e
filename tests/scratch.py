"""A copy of the code to change, and a process that runs it in place of the installed one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDERS = ("components", "infra", "model", "pipelines")


def copy_code(root: Path) -> Path:
    """Copies the code below `root/zoetrope`, which it returns; `root` is what to put on Python's path."""
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "compiled")
        shutil.copytree(ROOT / name, root / "zoetrope" / name, ignore=ignored)
    return root / "zoetrope"


def insert_before(file: Path, place: str, added: str) -> None:
    """Adds text before a place that a file holds exactly once."""
    text = file.read_text()
    assert text.count(place) == 1
    file.write_text(text.replace(place, added + place))


def environment(root: Path, **more: str) -> dict[str, str]:
    """Variables of a process that finds the copy before the installed code."""
    path = os.pathsep.join([str(root), *filter(None, [more.pop("PYTHONPATH", "")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


def ask(root: Path, code: str, *arguments: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a program says at last, as JSON; it runs the copy, and says the `place` of one of its packages."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=root, env=environment(root, **(variables or {})), text=True, capture_output=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    known: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(known["place"]).parent == root / "zoetrope"
    return known
