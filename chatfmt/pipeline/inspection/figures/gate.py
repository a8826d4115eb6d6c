"""Expressions over figures, such as `p99_tokens > 4096 or rejected / rows > 0.01`: arithmetic and comparisons alone."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ....errors import UnknownName, UsageError, edit_distance

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
HINT = "--fail-if 'p99_tokens > 4096', --fail-if 'rejected / rows > 0.01 or duplicates > 100'"
_TYPO = 2
"""Letters by which a typing error differs from a code."""
LENGTH = 1000
"""The longest expression, so that none is too deep to read."""


class Gate:
    """One expression and the names in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body if len(text) <= LENGTH else None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self._tree = None
        if not isinstance(self._tree, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            raise UsageError(f"`--fail-if` needs a comparison, not `{text}`", hint=HINT)
        self.names = tuple(dict.fromkeys(_names(self._tree, text)))
        if any(_divides_by_zero(node, text) for node in ast.walk(self._tree)):
            raise UsageError(f"`{text}` divides by zero", hint=HINT)

    def check(self, known: Mapping[str, object], unknown: Mapping[str, str]) -> None:
        """Raise UsageError for a name that is not `known`; `unknown` has the remedy for names without a value here.

        A name with a dot may be any reason to reject rows, such as `json.syntax`, unless it looks like a known code.
        """
        for name in self.names:
            if name in unknown:
                raise UsageError(f"`{name}` has no value here", hint=unknown[name])
            if name not in known and ("." not in name or any(edit_distance(name, code) <= _TYPO for code in known)):
                raise UnknownName.of("figure", name, known)

    def holds(self, values: Mapping[str, float]) -> bool | None:
        """Return whether the expression is true; None if it divides by a figure that is zero."""
        try:
            return bool(_value(self._tree, values))
        except ZeroDivisionError:
            return None


def _divides_by_zero(node: ast.AST, text: str) -> bool:
    """Return whether a node is a division by numbers alone that are zero."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div) or any(_names(node.right, text)):
        return False
    try:
        return not _value(node.right, {})
    except ZeroDivisionError:
        return True


def _names(node: ast.AST, text: str) -> Iterator[str]:
    """Yield the names in an expression; raises UsageError for anything but names, numbers and operators."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        yield ast.unparse(node)
    elif isinstance(node, ast.Compare) and all(type(each) in _OPERATORS for each in node.ops):
        yield from (name for each in (node.left, *node.comparators) for name in _names(each, text))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield from (name for each in (node.left, node.right) for name in _names(each, text))
    elif isinstance(node, ast.BoolOp):
        yield from (name for each in node.values for name in _names(each, text))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield from _names(node.operand, text)
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        raise UsageError(f"`--fail-if` knows figures, numbers and operators, not `{ast.unparse(node)}`", hint=HINT)


def _value(node: ast.AST | None, values: Mapping[str, float]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        return every(_value(each, values) for each in node.values)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.Compare):
        sides = [_value(each, values) for each in (node.left, *node.comparators)]
        return all(_OPERATORS[type(op)](*sides[i : i + 2]) for i, op in enumerate(node.ops))
    return values.get(ast.unparse(node), 0) if node is not None else False
