"""Quantities of Kubernetes."""

from __future__ import annotations

import re

from zoetrope.infra.quantities import scaled

_PATTERN = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]|[KMGTPE]i)?")


def number(quantity: object) -> float:
    """`500m`, `2`, `4Gi`, ... as a number; infinite where it cannot be read, since it then limits nothing known."""
    match = _PATTERN.fullmatch(str(quantity))
    return scaled(match[1], match[2]) if match else float("inf")
