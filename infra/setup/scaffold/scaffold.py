"""Checks the name, fills the templates and registers the new part."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pydantic import BaseModel

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.setup.scaffold.kinds import KINDS, Kind
from zoetrope.infra.setup.scaffold.placing import place
from zoetrope.infra.setup.scaffold.tables import UnknownTableError, words

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 30
"""Characters of a name: with more, lines of the templates get too long."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        new: files that were not there.
        table: the file that names the new part now.
        test: what to run first, for pytest.
        then: what is left to do.
    """

    new: tuple[str, ...]
    table: str
    test: str
    then: tuple[str, ...]


def scaffold(kind: str, name: str, root: Path) -> Written:
    """Writes a new part into a checkout, all of it or nothing.

    Args:
        kind: `step`, `filter` or `metric`.
        name: of the part, in small letters: module, function, column and setting are called so.
        root: the checkout.

    Raises:
        ZoetropeError: unknown kind, a name that cannot be used, no checkout, or files that cannot be written.
    """
    if kind not in KINDS:
        raise ZoetropeError(f"there is no kind {kind!r}", f"kinds: {', '.join(KINDS)}")
    chosen = KINDS[kind]
    _check_checkout(root, chosen)
    _check_name(name, root, chosen)
    values = {
        "name": name,
        "capital": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
    }
    if chosen.folder == "step":
        values["row"] = _filled(chosen, "row", values)
    new = {Template(path).substitute(values): _filled(chosen, each, values) for each, path in chosen.files.items()}
    place(root, new, {chosen.table: _registered(root, chosen, values)})
    then = tuple(Template(line).substitute(values) for line in chosen.then)
    return Written(tuple(new), chosen.table, Template(chosen.test).substitute(values), then)


def _filled(kind: Kind, template: str, values: Mapping[str, str]) -> str:
    return Template((TEMPLATES / kind.folder / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)


def _registered(root: Path, kind: Kind, values: Mapping[str, str]) -> str:
    try:
        return kind.register((root / kind.table).read_text(encoding="utf-8"), values)
    except UnknownTableError as error:
        raise ZoetropeError(
            f"{kind.table}: {error}, so nothing was written", "bring back the table's form, or teach tables.py the new"
        ) from error


def _check_checkout(root: Path, kind: Kind) -> None:
    if not (root / kind.table).is_file() or not (root / "tests").is_dir():
        raise ZoetropeError(
            f"{root}: no checkout of zoetrope ({kind.table} or tests/ is missing)", "call it in one, or --into ROOT"
        )


def _check_name(name: str, root: Path, kind: Kind) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise ZoetropeError(
            f"name {name!r}: not of the form small_letters_with_digits2, {LONGEST} characters at most",
            "choose a name like sharpen or colour_cast",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ZoetropeError(f"name {name!r}: a keyword of Python", f"choose another, e.g. {name}_check")
    for path in kind.files.values():
        place_ = Path(Template(path).substitute(name=name))
        for each in (place_.parent, place_) if place_.parent.name == name else (place_,):
            if (root / each).exists():
                raise ZoetropeError(f"{each} is there already", "choose another name, or remove it first")
    capital = "".join(part.capitalize() for part in name.split("_"))
    for module, said in _modules(root, kind):
        if {name, capital} & said:
            raise ZoetropeError(
                f"name {name!r}: means something in {module.relative_to(root)} already", "choose another name"
            )
    if hasattr(BaseModel, name):
        raise ZoetropeError(f"name {name!r}: a method of every configuration has it", "choose another name")


def _modules(root: Path, kind: Kind) -> Iterator[tuple[Path, set[str]]]:
    """Modules beside which the name will stand, and what they say."""
    for path in sorted(each for pattern in kind.modules for each in root.glob(pattern)):
        try:
            yield path, set(words(path.read_text(encoding="utf-8")))
        except SyntaxError as error:
            raise ZoetropeError(
                f"{path.relative_to(root)}, line {error.lineno}: {error.msg}", "mend it first: its names are looked at"
            ) from error
