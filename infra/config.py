"""The base of every configuration object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """Unknown keys and wrong types are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


NEUTRAL: dict[str, Any] = {"neutral": True}


def neutral(default: Any, **limits: Any) -> Any:
    """A field that shapes no byte of a result: a number of workers, or a path whose content is digested by itself.

    It is part of the configuration and of no step key.
    """
    return Field(default, json_schema_extra=NEUTRAL, **limits)


def neutral_fields(config: BaseModel, prefix: str = "") -> list[str]:
    """Paths of the neutral fields of a configuration, `path.to.field`."""
    found = []
    for name, field in type(config).model_fields.items():
        if field.json_schema_extra == NEUTRAL:
            found.append(f"{prefix}{name}")
        elif isinstance(inner := getattr(config, name), BaseModel):
            found += neutral_fields(inner, f"{prefix}{name}.")
    return found


def without(values: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy of a nested mapping without what lies at these paths."""
    here = {path for path in paths if "." not in path}
    found: dict[str, Any] = {}
    for name, value in values.items():
        below = [path.partition(".")[2] for path in paths if path.startswith(f"{name}.")]
        if name not in here:
            found[name] = without(value, below) if below and isinstance(value, Mapping) else value
    return found


def key_config(config: BaseModel) -> dict[str, Any]:
    """The configuration as JSON values without its neutral fields: what a step key holds of it."""
    return without(config.model_dump(mode="json"), neutral_fields(config))
