"""Is this machine ready for local runs, and for building images?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from zoetrope.infra.doctor.findings import Finding, ok, problem, unknown

OLDEST_PYTHON = (3, 11)
DISK_GB, MEMORY_GB = 5.0, 4.0
TOOLS = {
    "git": ("required", "install git: dataset versions are git tags"),
    "docker": ("optional", "needed for `make images` alone"),
    "kubectl": ("optional", "needed for manifests and `make e2e` alone"),
}


def python(state: Path) -> Finding:
    """The interpreter."""
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return problem("python", f"{version} is too old", "use Python 3.11 or newer")
    return ok("python", version)


def disk(state: Path) -> Finding:
    """Room for the state directory, and that it may be written."""
    place = next(path for path in (state.absolute(), *state.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    if not os.access(place, os.W_OK):
        return problem("disk", f"{place} cannot be written", "give --store DIR")
    if free < DISK_GB:
        return problem("disk", f"{free:.1f} GB free at {place}", f"make room for {DISK_GB:.0f} GB, or give --store DIR")
    return ok("disk", f"{free:.0f} GB free at {place}")


def memory(state: Path) -> Finding:
    """Main memory."""
    import psutil

    total = psutil.virtual_memory().total / 1e9
    if total < MEMORY_GB:
        return problem("memory", f"{total:.1f} GB", f"the nano recipe takes up to {MEMORY_GB:.0f} GB")
    return ok("memory", f"{total:.0f} GB, {os.cpu_count()} cores")


def tools(state: Path) -> Iterator[Finding]:
    """Programs that commands call."""
    for name, (need, hint) in TOOLS.items():
        path = shutil.which(name)
        if path:
            yield ok("tools", f"{name}: {path}")
        elif need == "required":
            yield problem("tools", f"{name} is not there", hint)
        else:
            yield unknown("tools", f"{name} is not there", hint)


def torch(state: Path) -> Finding:
    """PyTorch, found but not imported: that takes seconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ok("torch", version("torch"))
    except PackageNotFoundError:
        return problem("torch", "is not installed", "run `make setup`")
