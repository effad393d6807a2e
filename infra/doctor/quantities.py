"""Quantities of Kubernetes."""

from __future__ import annotations

import re

_PATTERN = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]|[KMGTPE]i)?")
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_FACTORS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}


def number(quantity: object) -> float:
    """`500m`, `2`, `4Gi`, ... as a number; infinite where it cannot be read, since it then limits nothing known."""
    match = _PATTERN.fullmatch(str(quantity))
    return float(match[1]) * _FACTORS.get(match[2] or "", 1.0) if match else float("inf")
