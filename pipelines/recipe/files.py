"""Reads a recipe: one YAML file, at most one `extends`, overrides, and errors that name key, place and remedy."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from zoetrope.infra.errors import ZoetropeError

RECIPES = Path(__file__).parents[1] / "recipes"
MODEL = TypeVar("MODEL", bound=BaseModel)
Key = str | int
Places = dict[tuple[Key, ...], str]
Layer = tuple[dict[str, Any], Places]


def recipe_names() -> list[str]:
    """Names of the recipes that come with zoetrope."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe, by name or by path (`.yaml`, `.yml`)."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ZoetropeError(f"recipe file {name} does not exist", f"recipes by name: {', '.join(recipe_names())}")
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    close = difflib.get_close_matches(name, recipe_names(), 1)
    nearest = f"did you mean {close[0]!r}? " if close else ""
    raise ZoetropeError(f"unknown recipe {name!r}", f"{nearest}recipes: {', '.join(recipe_names())}, or a .yaml file")


def read_layers(name: str) -> list[Layer]:
    """The recipe's own mapping, below it that of the recipe that it extends; the lowest first.

    A name that begins with `{` is a whole recipe as JSON: what a pipeline was compiled for from a file.
    """
    if name.lstrip().startswith("{"):
        return [(_inline(name), {})]
    path = find_recipe(name)
    values, places = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return [(values, places)]
    base = find_recipe(str(path.parent / parent) if str(parent).endswith((".yaml", ".yml")) else str(parent))
    below, places_below = read_yaml(base)
    if "extends" in below:
        raise ZoetropeError(
            f"{places[('extends',)]}: {base.name} extends another recipe", "extend a recipe that is complete"
        )
    return [(below, places_below), (values, places)]


def _inline(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ZoetropeError(f"the recipe is not JSON: {error}", "compile the pipeline again") from error
    return dict(values)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[Key, ...], str]]:
    """A YAML mapping and the place (`file:line`) of each of its keys."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ZoetropeError(f"{place}: not valid YAML: {getattr(error, 'problem', error)}", "fix the line") from error
    if not isinstance(values, dict):
        raise ZoetropeError(
            f"{path}: a recipe is a mapping of keys to values", "start from `zoetrope config show nano`"
        )
    assert node is not None
    return values, dict(_places(node, (), path))


def _places(node: yaml.Node, prefix: tuple[Key, ...], path: Path) -> Iterable[tuple[tuple[Key, ...], str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = (*prefix, str(key.value))
            yield where, f"{path.name}:{key.start_mark.line + 1}"
            yield from _places(value, where, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*prefix, index), f"{path.name}:{value.start_mark.line + 1}"
            yield from _places(value, (*prefix, index), path)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[tuple[Key, ...], str]:
    """Sets `path=value` in `values`; returns the place of each, for error messages.

    The value is read as YAML, so `8`, `true`, `null`, `[1, 2]` and `{a: 1}` mean what they mean in the recipe.
    """
    places: dict[tuple[Key, ...], str] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = tuple(path.strip().split("."))
        if not equals or not all(keys):
            raise ZoetropeError(f"--set {override!r} is not path=value", "e.g. --set stages.stage_3.steps=100")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ZoetropeError(f"--set {override!r}: the value is not valid YAML", "quote it") from error
        target: Any = values
        for depth, key in enumerate(keys[:-1]):
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                inner = ".".join(keys[: depth + 1])
                raise ZoetropeError(f"--set {override}: {inner} has no keys below it", f"set {inner} itself")
        target[keys[-1]] = value
        for depth in range(len(keys)):
            places.setdefault(keys[: depth + 1], f"--set {override}")
    return places


def validate(model: type[MODEL], values: Mapping[str, Any], places: Mapping[tuple[Key, ...], str]) -> MODEL:
    """`values` as a `model`; the first mistake becomes one ZoetropeError with key, place and nearest valid key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        first = problems[0]
        path = _without_tags(first["loc"], values, missing=first["type"] == "missing")
        name = ".".join(str(key) for key in path)
        where = next((places[path[:count]] for count in range(len(path), 0, -1) if path[:count] in places), "recipe")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            valid = fields_at(model, path[:-1])
            close = difflib.get_close_matches(str(path[-1]), valid, 1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"valid keys here: {', '.join(valid) or 'none'}"
            raise ZoetropeError(f"{where}: unknown key {name}{more}", hint) from error
        found = "" if first["type"] == "missing" else f", not {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise ZoetropeError(
            f"{where}: {name} must be {message}{found}{more}"[:400], "`zoetrope config show` lists all keys"
        ) from error


def _without_tags(location: tuple[Key, ...], values: Any, *, missing: bool) -> tuple[Key, ...]:
    """Drops what pydantic adds to a location for the members of a union; a missing key is not in `values` either."""
    path: list[Key] = []
    here = values
    for position, key in enumerate(location):
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            if not missing or position < len(location) - 1:
                continue
        path.append(key)
    return tuple(path)


def fields_at(model: Any, path: Sequence[Key]) -> list[str]:
    """Names of the keys that are valid below `path`."""
    kinds = [model]
    for key in path:
        kinds = [inner for kind in kinds for inner in _inner(kind, key)]
    return sorted({name for kind in kinds for name in _fields(kind)})


def _fields(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return []


def _inner(kind: Any, key: Key) -> list[Any]:
    annotation: Any = None
    if isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
        annotation = kind.model_fields[str(key)].annotation
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        annotation = typing.get_type_hints(kind).get(str(key))
    elif typing.get_origin(kind) in (dict, list, tuple, Mapping):
        annotation = typing.get_args(kind)[-1 if typing.get_origin(kind) is dict else 0]
    return _members(annotation)


def _members(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _members(part)]
    return [] if annotation in (None, type(None)) else [annotation]
