"""Source text without what cannot change a result: docstrings, comments, formatting, the words of messages."""

from __future__ import annotations

import ast
from collections.abc import Callable

LOGGING = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
"""Methods of loggers; with any receiver whose name says that it is one."""
LOGGERS = frozenset({"log", "logger", "logging", "_log", "LOG", "warnings"})
PROGRESS = frozenset({"progress", "event"})
"""Methods of the step's context that speak to the person who waits."""


def normalised(source: str | ast.Module, is_kept: Callable[[str], bool]) -> str:
    """The code of a module as text that depends on nothing but what it does.

    Left out are comments and formatting (the text is made from the syntax tree), docstrings, what is imported for
    type checkers only, the words of messages (of errors, logs, warnings, assertions, progress and events; the values
    in an f-string of theirs go with them) and imports of modules whose text is not part of the digest, so that these
    may move.

    Args:
        source: Python source, or its syntax tree, which is used up.
        is_kept: whether a module of ours belongs to the digest, by its full name.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source) if isinstance(source, str) else source
    return ast.unparse(_Words(is_kept).visit(tree))


class _Words(ast.NodeTransformer):
    def __init__(self, is_kept: Callable[[str], bool]) -> None:
        self.is_kept = is_kept

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Docstrings of modules, classes, functions and attributes; calls that only speak."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        """`if TYPE_CHECKING:` runs nowhere."""
        self.generic_visit(node)
        if is_type_checking(node):
            node.body = [ast.Pass()]
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """The condition counts, the message does not."""
        node.msg = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls that carry a message for people keep their shape and lose their words."""
        self.generic_visit(node)
        if _speaks(node.func):
            node.args = [_silent(each) for each in node.args]
            for keyword in node.keywords:
                keyword.value = _silent(keyword.value)
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Imports of ours that the digest does not hold are no part of it."""
        node.names = [alias for alias in node.names if not _is_ours(alias.name) or self.is_kept(alias.name)]
        return node if node.names else ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """The same for `from ... import ...`; names are given to `is_kept` with the module that they stand in."""
        if node.module is None or not _is_ours(node.module):
            return node
        node.names = [alias for alias in node.names if self.is_kept(f"{node.module}.{alias.name}")]
        return node if node.names else ast.Pass()


def is_type_checking(node: ast.If) -> bool:
    """Whether an `if` asks for the type checker."""
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _is_ours(module: str) -> bool:
    return module == "zoetrope" or module.startswith("zoetrope.")


def _speaks(function: ast.expr) -> bool:
    """Whether a call makes an error, logs, warns, prints or reports progress."""
    if isinstance(function, ast.Name):
        return function.id == "print" or _is_error(function.id)
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else getattr(function.value, "attr", "")
    if function.attr in LOGGING or function.attr == "warn":
        return owner in LOGGERS
    return function.attr in PROGRESS or _is_error(function.attr)


def _is_error(name: str) -> bool:
    return name.endswith(("Error", "Warning", "Exception"))


def _silent(node: ast.expr) -> ast.expr:
    """Without its words: a text becomes empty, whatever it is made of."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return ast.Constant("")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
        left, right = _silent(node.left), _silent(node.right)
        if isinstance(left, ast.Constant) and left.value == "":
            return left
        return ast.BinOp(left, node.op, right)
    if isinstance(node, ast.IfExp):
        return ast.IfExp(node.test, _silent(node.body), _silent(node.orelse))
    return node
