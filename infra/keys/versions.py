"""Versions of the libraries that shape a step's bytes."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "locks" / "zoetrope.lock"
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def libraries(names: Iterable[str]) -> dict[str, str]:
    """Distribution name -> version, and `python` with the version of the language.

    A library that is not installed here (a step's own pod has no PyTorch where its job has) takes the version of the
    lock from which every image is installed.

    Args:
        names: distributions, as the lock spells them.

    Raises:
        ValueError: a library is neither installed nor in the lock.
    """
    found = {name: _installed(name) or _locked().get(name, "") for name in names}
    unknown = sorted(name for name, known in found.items() if not known)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: neither installed nor in {LOCK.name}")
    return dict(sorted(found.items())) | {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}


@functools.cache
def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@functools.cache
def _locked() -> dict[str, str]:
    if not LOCK.exists():
        return {}
    return {name.lower(): pinned for name, pinned in _PINNED.findall(LOCK.read_text(encoding="utf-8"))}
