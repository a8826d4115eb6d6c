"""Symbolic int and float: numbers that record operations during tracing, as `symbols` does for texts."""

from __future__ import annotations

from typing import Any

from jinja2 import Undefined

from .program import Path
from .symbols import POISONED_NUMBER, SplitParts, Symbol, Tape, TraceRefused, close


class SymbolicLength(int):
    """The length of a text: a comparison with a constant asks only that; anything else fixes the number."""

    _chatfmt_symbol: Symbol

    def __new__(cls, symbol: Symbol) -> SymbolicLength:
        self = int.__new__(cls, POISONED_NUMBER)
        self._chatfmt_symbol = symbol
        return self

    def _chatfmt_pinned(self) -> int:
        return len(self._chatfmt_symbol)

    def _chatfmt_above(self, number: object) -> bool:
        if type(number) is not int:
            raise TraceRefused("a length is compared with what is not a whole number")
        return number < 0 or bool(self._chatfmt_symbol._chatfmt_ask("length>", number))

    def __gt__(self, other: object) -> bool:
        return self._chatfmt_above(other)

    def __ge__(self, other: object) -> bool:
        return self._chatfmt_above(other - 1 if type(other) is int else other)

    def __lt__(self, other: object) -> bool:
        return not self >= other

    def __le__(self, other: object) -> bool:
        return not self._chatfmt_above(other)

    def __eq__(self, other: object) -> bool:
        if type(other) is not int:
            return self._chatfmt_pinned() == other
        return self._chatfmt_above(other - 1) and not self._chatfmt_above(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return bool(self._chatfmt_symbol)

    def __str__(self) -> str:
        return str(self._chatfmt_pinned())

    __repr__ = __str__

    def __hash__(self) -> int:
        return hash(self._chatfmt_pinned())

    def __add__(self, other: Any) -> Any:
        return self._chatfmt_pinned() + other

    def __radd__(self, other: Any) -> Any:
        return other + self._chatfmt_pinned()

    def __sub__(self, other: Any) -> Any:
        return self._chatfmt_pinned() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._chatfmt_pinned()


close(SymbolicLength, int)


class SymbolicInt(int):
    """An int of the traced conversation; it can be printed, written as JSON and compared with constants."""

    _chatfmt_symbol: Symbol

    def __eq__(self, other: object) -> bool:
        return number_is(self, other)

    def __ne__(self, other: object) -> bool:
        return not number_is(self, other)

    def __bool__(self) -> bool:
        return bool(self._chatfmt_symbol._chatfmt_ask("true"))

    def __str__(self) -> str:
        return self._chatfmt_symbol._chatfmt_make("str")


class SymbolicFloat(float):
    """A float of the traced conversation, with the same operations."""

    _chatfmt_symbol: Symbol
    __eq__ = SymbolicInt.__eq__
    __ne__ = SymbolicInt.__ne__
    __bool__ = SymbolicInt.__bool__
    __str__ = SymbolicInt.__str__


close(SymbolicInt, int)
close(SymbolicFloat, float)


def number_is(number: SymbolicInt, other: object) -> bool:
    """Return whether a traced number equals a constant, and record the question."""
    if isinstance(other, (Symbol, SymbolicInt, SymbolicFloat, SymbolicLength)):
        raise TraceRefused("two values are compared")
    if type(other) in (int, bool):
        return bool(number._chatfmt_symbol._chatfmt_ask("is", other))
    if isinstance(other, (int, float)):
        raise TraceRefused("a number is compared with a fraction")
    return False


SYMBOLIC = (Symbol, SymbolicInt, SymbolicFloat, SymbolicLength, SplitParts)


def symbol_for(path: Path, value: Any, tape: Tape) -> Any:
    """Return the symbolic value for the text or number at `path` of the traced conversation."""
    if type(value) is str:
        return Symbol(("leaf", path), value, tape)
    number: Any = SymbolicInt(POISONED_NUMBER) if type(value) is int else SymbolicFloat(float(POISONED_NUMBER))
    number._chatfmt_symbol = Symbol(("leaf", path), value, tape)
    return number


def symbolic(value: Any, depth: int = 0) -> bool:
    """Return whether a value holds a symbol, or may hold one: generators, unknown objects and very deep data count."""
    if isinstance(value, SYMBOLIC):
        return True
    if isinstance(value, (str, int, float, type(None), slice)):
        return isinstance(value, slice) and any(map(symbolic, (value.start, value.stop, value.step)))
    if depth > 30:
        return True
    if isinstance(value, dict):
        return any(symbolic(item, depth + 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(symbolic(item, depth + 1) for item in value)
    return not isinstance(value, Undefined)
