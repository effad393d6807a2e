"""Config dataclasses out of manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

Config = TypeVar("Config")


def make_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Builds a config dataclass from a manifest's JSON; lists become tuples.

    Raises:
        ValueError: unknown fields, with the nearest valid one.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"{kind.__name__} has no field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
