"""The digest of the code that a step runs: its module and everything of zoetrope that this imports.

kfp.local keys a task's cache by its parameters only; with this digest among them, editing the report does not
redo the training, and editing the trainer does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

NAMESPACE = "zoetrope"
DATA_SUFFIXES = (".yaml", ".json", ".toml", ".html", ".css", ".js")


@functools.cache
def module_file(name: str) -> Path | None:
    """The source file of a module of ours, None where the name is no module."""
    if not name.startswith(NAMESPACE + "."):
        return None
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@functools.cache
def imports(name: str) -> frozenset[str]:
    """Modules of ours that `name` imports anywhere, also inside functions."""
    path = module_file(name)
    if path is None:
        return frozenset()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{parent}.{base}" if base else parent
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("zoetrope."):
            found.add(node.value)  # a module started as `python -m zoetrope....`
    return frozenset(each for each in found if module_file(each) is not None)


def closure(name: str) -> list[str]:
    """`name`, all that it imports, and the packages that contain them, sorted."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in seen or module_file(module) is None:
            continue
        seen.add(module)
        parts = module.split(".")
        waiting.extend(".".join(parts[:count]) for count in range(2, len(parts)))
        waiting.extend(imports(module))
    return sorted(seen)


@functools.cache
def code_digest(name: str) -> str:
    """SHA-256 over the sources of `closure(name)`, the data files beside them and the Python version.

    Args:
        name: a module such as `zoetrope.components.ingest.step`.
    """
    hasher = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}\n".encode())
    folders: set[Path] = set()
    for module in closure(name):
        path = module_file(module)
        assert path is not None
        hasher.update(f"{module}\0".encode() + path.read_bytes() + b"\0")
        folders.add(path.parent)
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()):
            if path.suffix in DATA_SUFFIXES:
                hasher.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return hasher.hexdigest()
