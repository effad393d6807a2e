"""The key of a step: everything that its result depends on, part by part, so that a difference can be named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.references import canonical_json, digest_json


class KeyParts(StrictModel):
    """What the result of a step depends on.

    Attributes:
        step: name of the step.
        config: the configuration that the work reads, without fields that shape no bytes (`infra.config.neutral`).
        inputs: name -> SHA-256 of the content that the step reads; never a place. An optional input that is not
            given is left out.
        operators: module -> digest of its code (`infra.keys.operators`).
        libraries: distribution -> version (`infra.keys.libraries`).
        content: recipe key -> digest of what the step reads that no reference covers: a folder of videos, a file of
            weights.
    """

    step: str
    config: dict[str, Any]
    inputs: dict[str, str] = Field(default_factory=dict)
    operators: dict[str, str] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    content: dict[str, str] = Field(default_factory=dict)

    def digest(self) -> str:
        """The key: SHA-256 over all parts."""
        return digest_json(self.model_dump(mode="json"))

    def flat(self) -> dict[str, str]:
        """Part by part: `config:filters.motion.minimum`, `input:clips`, `operator:zoetrope...`, ... -> value."""
        found = {f"config:{path}": value for path, value in _flat(self.config).items()}
        for part, values in (
            ("input", self.inputs),
            ("operator", self.operators),
            ("library", self.libraries),
            ("content", self.content),
        ):
            found |= {f"{part}:{name}": value for name, value in values.items()}
        return found


def differences(now: KeyParts, before: KeyParts) -> list[str]:
    """The parts in which two keys differ, each as one phrase for people, in the order of `KeyParts.flat`."""
    new, old = now.flat(), before.flat()
    phrases = []
    for name in [*new, *(name for name in old if name not in new)]:
        if new.get(name) == old.get(name):
            continue
        kind, _, what = name.partition(":")
        if kind == "config":
            phrases.append(f"{what}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}")
        elif kind == "library":
            phrases.append(f"library {what}: {old.get(name, 'none')} -> {new.get(name, 'none')}")
        else:
            change = "is new" if name not in old else "is gone" if name not in new else "changed"
            phrases.append(f"{kind} {what} {change}")
    return phrases


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{path}.{key}" if path else str(key))
        return found
    return {path: digest_text(value)}


def digest_text(value: Any) -> str:
    """A value as short text for people; long ones by their beginning and digest."""
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return text if len(text) <= 60 else f"{text[:40]}... ({digest_json(value)[:8]})"
