"""Files that appear in a checkout together: written and put in order beside it first, then moved into their places."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zoetrope.infra.errors import ZoetropeError


def place(root: Path, new: Mapping[str, str], changed: Mapping[str, str]) -> None:
    """Writes new files, and then those that refer to them; all of them or none.

    Args:
        root: the checkout.
        new: path below it -> text; where the folder is new as well, it appears as a whole.
        changed: the same of files that are there.

    Raises:
        ZoetropeError: a file cannot be written, or ruff is missing; nothing has changed then.
    """
    before = {path: (root / path).read_bytes() for path in changed}
    moved: list[Path] = []
    try:
        # within the checkout: a move is one change of a name only on the same disk, and ruff finds its settings there
        with tempfile.TemporaryDirectory(prefix=".scaffold-", dir=root) as name:
            stage = Path(name)
            for path, text in (*new.items(), *changed.items()):
                (stage / path).parent.mkdir(parents=True, exist_ok=True)
                (stage / path).write_text(text, encoding="utf-8")
            _in_order(root, [stage / path for path in (*new, *changed) if path.endswith(".py")])
            for unit in dict.fromkeys(_unit(root, path) for path in new):
                (stage / unit).rename(root / unit)
                moved.append(root / unit)
            for path in changed:
                shutil.copymode(root / path, stage / path)
                (stage / path).replace(root / path)
    except BaseException as error:
        _undo(root, moved, before)
        if isinstance(error, OSError):
            place_ = error.filename or root
            raise ZoetropeError(f"{place_} cannot be written: {error.strerror}", "check rights and disk") from error
        raise


def _unit(root: Path, path: str) -> str:
    """What has to be moved for a file: itself, or the topmost of its folders that is not there yet."""
    for folder in reversed(Path(path).parents):
        if not (root / folder).exists():
            return str(folder)
    return path


def _in_order(root: Path, files: list[Path]) -> None:
    """Sorts imports and breaks lines: both depend on the name."""
    for command in (["check", "--fix-only", "--select", "I"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--no-cache", *map(str, files)],
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise ZoetropeError(f"ruff {command[0]} failed: {reason}", "make setup installs it; make lint shows more")


def _undo(root: Path, moved: list[Path], before: Mapping[str, bytes]) -> None:
    for path in moved:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name, content in before.items():
        if (root / name).read_bytes() != content:
            (root / name).write_bytes(content)
