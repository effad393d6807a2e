"""Golden numbers: one file for each type of CPU, and one for what no CPU changes.

Sums of floating-point numbers depend on the instructions that the libraries choose, so the same code gives other last
digits on another type of CPU. What is in a file was computed there, once, and is compared to the last digit.
"""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
ANYWHERE = "anywhere"
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile")
"""What the kernels of PyTorch, oneDNN, MKL, OpenBLAS and NumPy are chosen by, beside the vendor."""
LIBRARIES = ("torch", "numpy", "scipy", "av", "pyarrow", "transformers")
"""Whose versions may change a number."""
AGAIN = "if the change is meant, run `make golden-numbers` and commit what it prints as changed"

Numbers = dict[str, Any]


def cpu_type(cpuinfo: str | None = None) -> str:
    """Architecture, vendor and instruction sets of this CPU, e.g. `x86_64-amd-avx2-fma-avx512f`.

    Args:
        cpuinfo: text of /proc/cpuinfo; None reads it.
    """
    try:
        text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    except OSError:
        text = ""
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.M)
    known = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
    name = known.get(vendor[1], vendor[1].lower()) if vendor else "unknown"
    found = [flag for flag in FLAGS if flags and flag in flags[1].split()]
    return "-".join([platform.machine(), name, *found])


def libraries() -> dict[str, str]:
    """Installed versions."""
    return {name: version(name) for name in LIBRARIES}


def read(name: str) -> Numbers | None:
    """The numbers of a file, None where there is none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(name: str, numbers: Numbers) -> None:
    """Writes a file."""
    (FOLDER / f"{name}.json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def known() -> Numbers:
    """The numbers of this type of CPU; skips the test that asks where nobody has computed them."""
    numbers = read(cpu_type())
    if numbers is None:
        pytest.skip(f"no golden numbers for CPUs of type {cpu_type()}; `make golden-numbers` computes them")
    return numbers


def difference(old: Numbers | None, new: Numbers) -> list[str]:
    """One line for each number that is new, gone or other than before."""
    before, after = _flat(old or {}), _flat(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            lines.append(f"+ {name}: {after[name]}")
        elif name not in after:
            lines.append(f"- {name}: {before[name]}")
        elif before[name] != after[name]:
            lines.append(f"! {name}: {before[name]} -> {after[name]}")
    return lines


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: leaf for part in value for key, leaf in _flat(value[part], f"{name}.{part}".strip(".")).items()}
    if isinstance(value, list):
        return {key: leaf for at, part in enumerate(value) for key, leaf in _flat(part, f"{name}[{at}]").items()}
    return {name: value}
