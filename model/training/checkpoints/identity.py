"""What the result of a training depends on, and how that of a checkpoint differs from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DIGITS = 12
"""Of the digest in the name of a checkpoint."""
SHOWN = 3
"""Most fields that a message names."""


@dataclass(frozen=True)
class Identity:
    """The configuration that a checkpoint must have been made with to be continued.

    Attributes:
        config: JSON: settings, digests of data, of parent weights and of code.
        may_change: dotted paths that do not count, with all below them: what makes a run longer (`stage.steps`), or
            changes how it is run or told and not what comes out (`stage.save_every`, `parallel`, `workers`).

    Raises:
        ValueError: `may_change` names what is not in the configuration.
    """

    config: Mapping[str, Any]
    may_change: Collection[str] = ()

    def __post_init__(self) -> None:
        """Finds misspelt paths, which would make every change begin anew."""
        for path in self.may_change:
            value: Any = self.config
            for name in path.split("."):
                if not isinstance(value, Mapping) or name not in value:
                    raise ValueError(f"may_change: {path} is not in the configuration of the training")
                value = value[name]

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
        names = sorted(name for name in {*own, *saved} if _shown(own, name) != _shown(saved, name))
        said = [f"{name} was {_shown(saved, name)}, now {_shown(own, name)}" for name in names[:SHOWN]]
        return "; ".join(said) + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    def _flat(self, path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if path in self.may_change:
            return
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from self._flat(f"{path}.{name}" if path else name, inner)
        else:
            yield path, value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    # as text, in which 1, 1.0 and true differ as they do in the digest; "absent" is no JSON
    return json.dumps(fields[name], sort_keys=True) if name in fields else "absent"
