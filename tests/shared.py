"""What is dear to make and the same for all tests: made once in a test run, whichever of its processes comes first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

Make = Callable[[Path], object]


def once(factory: pytest.TempPathFactory, name: str, make: Make) -> Path:
    """The folder that `make` has filled, in this process or in another one of this run; nobody may write to it."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = root / f"shared-{name}"
    with FileLock(root / f"shared-{name}.lock"):
        if not folder.exists():
            half = root / f"shared-{name}.half"
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder
