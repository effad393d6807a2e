"""The operators of a step: the code that its result depends on, module by module.

In are the modules that the step's work imports within its own folder and in model/, and of infra those that shape
bytes, by name. Out is what launches, retries, files, pays and tells: no change there can change a result. See
docs/decisions/0007.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zoetrope.infra.keys.source import is_type_checking, normalised

NAMESPACE = "zoetrope"
SHAPING_INFRA = frozenset(
    {
        "zoetrope.infra.references",  # canonical JSON and digests: ids, manifests
        "zoetrope.infra.store.content",  # how JSON and tables become bytes
        "zoetrope.infra.quality.gate",  # a manifest keeps what the gates found
        "zoetrope.infra.datasets.layout",  # how a dataset version lists its shards
    }
)
"""The modules of infra that shape bytes of a result."""
PRESENTATION = frozenset({"page"})
"""Modules of a step's folder that only show its result to people."""
DATA_SUFFIXES = frozenset({".yaml", ".json", ".toml"})
"""Data beside the modules of a step: suites of expectations, tables."""
DIGITS = 16


@dataclass(frozen=True)
class CodeTree:
    """The source of zoetrope below one folder, with `components/`, `model/` and `infra/` in it."""

    root: Path
    _modules: dict[str, _Module | None] = field(default_factory=dict, compare=False, repr=False)

    def module(self, name: str) -> _Module | None:
        """A module of ours by its full name, None where the name is no module."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> _Module | None:
        namespace, *parts = name.split(".")
        if namespace != NAMESPACE or not parts or not all(part.isidentifier() for part in parts):
            return None
        folder = self.root.joinpath(*parts)
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                return _Module(name, path)
        return None


class _Module:
    """One source file, normalised once for each set of imports that are kept."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.is_package = path.name == "__init__.py"
        self._source = path.read_text(encoding="utf-8")
        self._tree: ast.Module | None = ast.parse(self._source)
        found = list(_imports(self._tree, running=True))
        self.imports = [(module, name) for module, name, running in found if running]
        """(module, name) of what runs: name is empty for `import module` and for modules named in a text."""
        self.names = {name: (module, name) for module, name, _ in found if name}
        """Imported name -> (module, name), for type checkers too; for packages that hand names on."""
        self._full_names = {f"{module}.{name}" if name else module for module, name, _ in found}
        self._digests: dict[frozenset[str], str] = {}

    def digest(self, is_kept: Callable[[str], bool]) -> str:
        """Of the normalised code."""
        kept = frozenset(full for full in self._full_names if is_kept(full))
        if kept not in self._digests:
            tree, self._tree = self._tree, None  # the first time uses it up
            text = normalised(tree or self._source, kept.__contains__)
            self._digests[kept] = _digest(text.encode())
        return self._digests[kept]


def operators(module: str, tree: CodeTree | None = None) -> dict[str, str]:
    """The operators of a step.

    Args:
        module: the module with the work, such as `zoetrope.components.ingest.step`.
        tree: where the source lies; the installed one where it is left out.

    Returns:
        Module name (for data: `module/file`) -> first 16 hexadecimal digits of the SHA-256 of its normalised code.

    Raises:
        ValueError: there is no such module.
    """
    tree = tree or installed()
    names = closure(module, tree)
    kept = frozenset(names)

    def is_kept(name: str) -> bool:
        """Of a full name: the module itself, or the one that it comes from, is an operator."""
        package, _, attribute = name.rpartition(".")
        return name in kept or package in kept or origin(package, attribute, tree) in kept

    found = {}
    for name in names:
        each = tree.module(name)
        assert each is not None
        found[name] = each.digest(is_kept)
        for data in _data_files(each.path):
            place = name if each.is_package else name.rpartition(".")[0]
            found[f"{place}/{data.name}"] = _digest(data.read_bytes())
    return dict(sorted(found.items()))


def closure(module: str, tree: CodeTree) -> list[str]:
    """Names of the modules whose code counts for `module`, sorted."""
    if tree.module(module) is None:
        raise ValueError(f"there is no module {module}")
    home = _home(module)
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        found = tree.module(name)
        if name in seen or found is None:
            continue
        seen.add(name)
        for package, attribute in found.imports:
            target = origin(package, attribute, tree)
            if target is not None and _counts(target, home):
                waiting.append(target)
    return sorted(seen)


def origin(package: str, attribute: str, tree: CodeTree) -> str | None:
    """The module in which `from package import attribute` finds it; packages that only hand names on are followed.

    None where it is no module of ours.
    """
    for _ in range(10):  # a name is handed on a few times at most
        if attribute and tree.module(f"{package}.{attribute}") is not None:
            return f"{package}.{attribute}"
        module = tree.module(package)
        if module is None:
            return None
        if not module.is_package or attribute not in module.names:
            return package
        package, attribute = module.names[attribute]
    raise ValueError(f"{package} hands {attribute} on in a circle")


def _counts(name: str, home: str) -> bool:
    if name in SHAPING_INFRA:
        return True
    if name.rpartition(".")[2] in PRESENTATION:
        return False
    return name.startswith((f"{NAMESPACE}.model.", f"{home}.")) or name in (f"{NAMESPACE}.model", home)


def _home(module: str) -> str:
    """The step's folder as a package: `zoetrope.components.train`."""
    return ".".join(module.split(".")[:3])


def _imports(node: ast.AST, *, running: bool) -> Iterator[tuple[str, str, bool]]:
    """(module, name, whether it runs) of all that is imported below a node; type checkers' imports do not run."""
    for child in ast.iter_child_nodes(node):
        kind = type(child)
        if kind is ast.Constant:
            value = child.value  # type: ignore[attr-defined]
            if isinstance(value, str) and _is_name(value):
                yield value, "", running  # a module that is started as `python -m zoetrope....`
        elif kind is ast.Import:
            yield from ((alias.name, "", running) for alias in child.names)  # type: ignore[attr-defined]
        elif isinstance(child, ast.ImportFrom):
            if child.module and not child.level:
                yield from ((child.module, alias.name, running) for alias in child.names)
        elif isinstance(child, ast.If) and is_type_checking(child):
            for each in child.body:
                yield from _imports(ast.Module([each], []), running=False)
            for each in child.orelse:
                yield from _imports(ast.Module([each], []), running=running)
        elif kind not in _LEAVES:
            yield from _imports(child, running=running)


_LEAVES = frozenset({ast.Name, ast.Load, ast.Store, ast.arg, ast.Pass})
"""Kinds of nodes below which nothing is imported and no module is named."""


def _is_name(text: str) -> bool:
    return text.startswith(f"{NAMESPACE}.") and " " not in text and "/" not in text


def _data_files(path: Path) -> list[Path]:
    return [each for each in sorted(path.parent.iterdir()) if each.suffix in DATA_SUFFIXES and each.is_file()]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


@functools.cache
def installed() -> CodeTree:
    """The source that this process runs."""
    return CodeTree(Path(__file__).resolve().parents[2])
