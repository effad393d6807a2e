"""Suffixes of Kubernetes' quantities such as `500m` and `4Gi`."""

from __future__ import annotations

_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_FACTORS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}


def scaled(digits: str, suffix: str | None) -> float:
    """The number that digits and suffix mean; a suffix that Kubernetes does not know counts as 1."""
    return float(digits) * _FACTORS.get(suffix or "", 1.0)
