"""What the result of a training depends on, and how that of a checkpoint differs from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAY_CHANGE = frozenset({"steps", "save_every", "log_every"})
"""Last names of fields that a training may be continued with other values of: it becomes longer, or tells more."""
DIGITS = 12
"""Of the digest in the name of a checkpoint."""


@dataclass(frozen=True)
class Identity:
    """The configuration that a checkpoint must have been made with to be continued.

    Attributes:
        config: JSON: settings, digests of data, parent weights and code. Ranks and mesh do not belong into it.
        may_change: last names of fields that are left out.
    """

    config: Mapping[str, Any]
    may_change: Collection[str] = MAY_CHANGE

    @property
    def fields(self) -> dict[str, Any]:
        """Dotted path -> value of what is compared."""
        return dict(self._flat("", json.loads(json.dumps(self.config))))

    @property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the fields."""
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()[:DIGITS]

    def difference(self, saved: Mapping[str, Any]) -> str:
        """Which fields differ from those of a checkpoint, for a person; empty where none does."""
        own = self.fields
        names = sorted(name for name in {*own, *saved} if own.get(name, _NONE) != saved.get(name, _NONE))
        said = [f"{name} was {_shown(saved, name)}, now {_shown(own, name)}" for name in names[:3]]
        return "; ".join(said) + (f"; and {len(names) - 3} more" if len(names) > len(said) else "")

    def _flat(self, path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                if name not in self.may_change:
                    yield from self._flat(f"{path}.{name}" if path else name, inner)
        else:
            yield path, value


_NONE = object()


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else "absent"
