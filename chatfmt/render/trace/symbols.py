"""Symbolic texts: strings that record the operations of a template on them during tracing.

A `Symbol` replaces a text of the conversation. Every operation of `str` on it returns another symbol, asks a question
that is recorded with its answer on the tape, or raises `TraceRefused`; no operation reads the text unrecorded. C code
can still read the buffer of a `str` without its methods, so the buffer holds `POISON` in place of the text: code that
reads it prints the poison, and the trace is discarded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, SupportsIndex

from .program import OPERATIONS, QUESTIONS, Expression, Piece, Question

POISON = f"\ue123\ue456{os.urandom(8).hex()}\ue789"
"""The content of the buffer of every symbol, different in each process so that no text can contain it."""
POISONED_NUMBER = int.from_bytes(os.urandom(12)) | 1 << 100


class TraceRefused(BaseException):
    """The trace cannot go on. Not an Exception, so that Jinja does not catch it. `every_row`: nor for any other row."""

    def __init__(self, reason: str, every_row: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.every_row = reason, every_row


class Tape:
    """The questions asked so far, in order, with their answers."""

    def __init__(self) -> None:
        self.guards: dict[Question, Any] = {}

    def ask(self, question: Question, subject: Any) -> Any:
        """Return the answer for the traced conversation and record it."""
        if question not in self.guards:
            self.guards[question] = QUESTIONS[question[0]](subject, *question[2:])
        return self.guards[question]


def _constants(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the arguments of an operation as data; refuse symbols and values that JSON does not preserve."""
    found = tuple(values)
    for value in found:
        if isinstance(value, tuple) and all(type(item) is str for item in value):
            continue
        if type(value) not in (str, int, bool, type(None)):
            raise TraceRefused(f"`{name}` with an argument that is not a constant")
    return found


class Symbol(str):
    """A text of the traced conversation, or a text computed from such texts."""

    __slots__ = ("_chatfmt_expression", "_chatfmt_tape", "_chatfmt_text")
    _chatfmt_expression: Expression
    _chatfmt_text: str
    _chatfmt_tape: Tape

    def __new__(cls, expression: Expression, text: str, tape: Tape) -> Symbol:
        self = str.__new__(cls, POISON)
        self._chatfmt_expression, self._chatfmt_text, self._chatfmt_tape = expression, text, tape
        return self

    def _chatfmt_make(self, name: str, *arguments: Any) -> Symbol:
        constants = _constants(name, arguments)
        text = OPERATIONS[name](self._chatfmt_text, *constants)
        return Symbol((name, self._chatfmt_expression, *constants), text, self._chatfmt_tape)

    def _chatfmt_ask(self, name: str, *arguments: Any) -> Any:
        question = (name, self._chatfmt_expression, *_constants(name, arguments))
        return self._chatfmt_tape.ask(question, self._chatfmt_text)

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        parts = parts_of(self)
        if any(type(part) is str for part in parts):
            return True
        if len(parts) < 2:
            return bool(self._chatfmt_ask("true"))
        return any(map(bool, parts))

    def __len__(self) -> int:
        return int(self._chatfmt_ask("length"))

    def __contains__(self, part: object) -> bool:
        if not isinstance(part, str):
            raise TypeError(f"'in <string>' requires string as left operand, not {type(part).__name__}")
        _constants("in", (part,))
        if any(type(piece) is str and part in piece for piece in parts_of(self)):
            return True
        return bool(self._chatfmt_ask("has", part))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, str):
            return False
        if isinstance(other, Symbol):
            if other._chatfmt_expression == self._chatfmt_expression:
                return True
            raise TraceRefused("two texts are compared")
        return bool(self._chatfmt_ask("is", other)) if other else not self

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise TraceRefused("a text is used as a key")

    def __add__(self, other: Any) -> Any:
        return joined((self, other), self._chatfmt_tape) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return joined((other, self), self._chatfmt_tape) if isinstance(other, str) else NotImplemented

    def __getitem__(self, place: Any) -> Symbol:
        if isinstance(place, slice):
            return self._chatfmt_make("slice", place.start, place.stop, place.step)
        if type(place) is not int:
            raise TypeError("string indices must be integers")
        if not self._chatfmt_ask("length>", place if place >= 0 else -place - 1):
            raise IndexError("string index out of range")
        return self._chatfmt_make("slice", place, place + 1 if place != -1 else None, None)

    def strip(self, characters: str | None = None, /) -> str:
        return strip_start(strip_end(self, "rstrip", characters), "lstrip", characters, whole="strip")

    def lstrip(self, characters: str | None = None, /) -> str:
        return strip_start(self, "lstrip", characters)

    def rstrip(self, characters: str | None = None, /) -> str:
        return strip_end(self, "rstrip", characters)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        return self._chatfmt_make("replace", old, new, count)

    def startswith(self, prefix: Any, /, *span: Any) -> bool:
        first = parts_of(self)[:1]
        if first and type(first[0]) is str and not span and type(prefix) is str and len(first[0]) >= len(prefix):
            return first[0].startswith(prefix)
        return bool(self._chatfmt_ask("startswith", prefix, *span))

    def endswith(self, suffix: Any, /, *span: Any) -> bool:
        last = parts_of(self)[-1:]
        if last and type(last[0]) is str and not span and type(suffix) is str and len(last[0]) >= len(suffix):
            return last[0].endswith(suffix)
        return bool(self._chatfmt_ask("endswith", suffix, *span))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> Any:
        return SplitParts(self, "split", "parts", (sep, maxsplit))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> Any:
        return SplitParts(self, "rsplit", "rparts", (sep, maxsplit))

    def splitlines(self, keepends: bool = False) -> Any:
        return SplitParts(self, "splitlines", "lines", (keepends,))

    def join(self, texts: Iterable[Any], /) -> str:
        return join_with(self, texts)


def _operation(name: str) -> Callable[..., Any]:
    def operate(self: Symbol, *arguments: Any) -> Symbol:
        return self._chatfmt_make(name, *arguments)

    return operate


def _question(name: str) -> Callable[..., Any]:
    def ask(self: Symbol, *arguments: Any) -> Any:
        return self._chatfmt_ask(name, *arguments)

    return ask


def refuser(name: str) -> Callable[..., NoReturn]:
    """Return a method that refuses; it is not itself named `format`, which the sandbox would wrap."""

    def refuse(self: Any, *arguments: Any, **named: Any) -> NoReturn:
        raise TraceRefused(f"`{name}` of a text or number is not traced")

    return refuse


_KEPT = frozenset((
    "__new__", "__init__", "__class__", "__getattribute__", "__setattr__", "__delattr__", "__init_subclass__",
    "__subclasshook__", "__reduce__", "__reduce_ex__", "__dir__", "__sizeof__", "__getstate__", "__getnewargs__",
    "__doc__",
))  # fmt: skip


def close(kind: type, base: type) -> None:
    """Make `kind` refuse every method of `base` that it does not define itself."""
    for name in dir(base):
        if name not in _KEPT and name not in kind.__dict__ and callable(getattr(base, name)):
            setattr(kind, name, refuser(name))


for _name in ("lower", "upper", "capitalize", "title", "swapcase", "casefold", "removeprefix", "removesuffix"):
    setattr(Symbol, _name, _operation(_name))
for _name in ("find", "rfind", "count", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower"):
    setattr(Symbol, _name, _question(_name))
close(Symbol, str)


class Character(Symbol):
    """Any one character of a text: known to be a string; every operation on it refuses."""

    def __new__(cls, tape: Tape) -> Character:
        return super().__new__(cls, ("character",), "", tape)  # type: ignore[return-value]

    def _chatfmt_make(self, name: str, *arguments: Any) -> Symbol:
        raise TraceRefused("a loop over the characters of a text")

    def _chatfmt_ask(self, name: str, *arguments: Any) -> Any:
        raise TraceRefused("a loop over the characters of a text")

    def __bool__(self) -> bool:
        return True


for _name in ("__eq__", "__ne__", "__add__", "__radd__", "__contains__", "__getitem__", "strip", "lstrip", "rstrip",
              "split", "rsplit", "splitlines", "startswith", "endswith", "join"):  # fmt: skip
    setattr(Character, _name, refuser(_name))


def parts_of(text: str) -> list[str]:
    """Return the literals and symbols of which a text is the concatenation, in order."""
    if not isinstance(text, Symbol):
        return [text] if text else []
    expression, whole = text._chatfmt_expression, text._chatfmt_text
    if expression[0] != "cat" or not isinstance(whole, _Joined):  # an operation may return the joined text itself
        return [text]
    texts = iter(whole.texts)
    return [
        piece if isinstance(piece, str) else Symbol(piece, next(texts), text._chatfmt_tape) for piece in expression[1]
    ]


class _Joined(str):
    """The traced text of a concatenation, with the texts of its expressions."""

    texts: list[str]


def joined(parts: Iterable[Any], tape: Tape) -> str:
    """Concatenate texts, merging literals; return a `str` if there is no symbol among them. Raises TypeError."""
    pieces: list[Piece] = []
    texts: list[str] = []
    for whole in parts:
        if not isinstance(whole, str):
            raise TypeError(f"sequence item: expected str instance, {type(whole).__name__} found")
        for part in parts_of(whole):
            _append(pieces, texts, part)
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(str(piece) for piece in pieces)
    if len(pieces) == 1:
        return Symbol(pieces[0], texts[0], tape)  # type: ignore[arg-type]
    symbols = iter(texts)
    text = _Joined("".join(piece if isinstance(piece, str) else next(symbols) for piece in pieces))
    text.texts = texts
    return Symbol(("cat", tuple(pieces)), text, tape)


def _append(pieces: list[Piece], texts: list[str], part: str) -> None:
    if isinstance(part, Character):
        raise TraceRefused("a loop over the characters of a text")
    if isinstance(part, Symbol):
        pieces.append(part._chatfmt_expression)
        texts.append(part._chatfmt_text)
    elif hasattr(part, "__html__"):
        raise TraceRefused("escaped markup meets a text")
    elif pieces and isinstance(pieces[-1], str):
        pieces[-1] += str(part)
    else:
        pieces.append(str(part))


def strip_start(text: str, name: str, characters: str | None, whole: str = "") -> str:
    """Return `text.lstrip(characters)`: leading literals are stripped now, the symbol after them by an operation.

    `whole` names the operation (`strip`) that replaces `rstrip` and this one if a single text is left.
    """
    return _strip(text, name, characters, 0, whole)


def strip_end(text: str, name: str, characters: str | None) -> str:
    """Return `text.rstrip(characters)`, in the same way."""
    return _strip(text, name, characters, -1, "")


def _strip(text: str, name: str, characters: str | None, place: int, whole: str) -> str:
    _constants(name, (characters,))
    parts = parts_of(text)
    tape = next((part._chatfmt_tape for part in parts if isinstance(part, Symbol)), None)
    if tape is None:
        return str(getattr(text, name)(characters))
    while parts:
        edge = parts[place]
        parts[place] = stripped = _strip_one(edge, name, characters, whole if len(parts) == 1 else "")
        if len(parts) == 1 or stripped:
            break
        parts.pop(place)
    return joined(parts, tape)


def _strip_one(edge: str, name: str, characters: str | None, whole: str) -> str:
    if not isinstance(edge, Symbol):
        return str(getattr(edge, name)(characters))
    expression = edge._chatfmt_expression
    if whole and expression[0] == "rstrip" and expression[2] == characters:
        text = edge._chatfmt_text.lstrip(characters)
        return Symbol((whole, expression[1], characters), text, edge._chatfmt_tape)
    return edge._chatfmt_make(name, characters)


def join_with(separator: str, texts: Iterable[Any]) -> str:
    """Return `separator.join(texts)`; some texts may be symbols."""
    parts: list[Any] = []
    for text in texts:
        parts += [separator, text] if parts else [text]
    return joined_any(parts)


def joined_any(parts: list[Any]) -> str:
    """Concatenate texts, with the tape of the first symbol among them."""
    tape = next((part._chatfmt_tape for part in parts if isinstance(part, Symbol)), None)
    return "".join(parts) if tape is None else joined(parts, tape)


class SplitParts:
    """The result of `split`: a list whose first and last elements need no guard; its length adds one."""

    def __init__(self, subject: Symbol, operation: str, question: str, arguments: tuple[Any, ...]) -> None:
        self._chatfmt = (subject, operation, question, _constants(operation, arguments))

    def _chatfmt_count(self) -> int:
        subject, _, question, arguments = self._chatfmt
        return int(subject._chatfmt_ask(question, *arguments))

    def _chatfmt_at(self, place: int) -> Symbol:
        subject, operation, _, arguments = self._chatfmt
        return subject._chatfmt_make(operation, *arguments, place)

    def __len__(self) -> int:
        return self._chatfmt_count()

    def __bool__(self) -> bool:
        return self._chatfmt_count() > 0

    def __iter__(self) -> Iterator[Symbol]:
        return iter([self._chatfmt_at(place) for place in range(self._chatfmt_count())])

    def __reversed__(self) -> Iterator[Symbol]:
        return reversed(list(self))

    def __contains__(self, item: object) -> bool:
        return item in list(self)

    def __getitem__(self, place: Any) -> Any:
        if type(place) is int and place in (0, -1) and self._chatfmt[3][0] not in (None, True, False):
            return self._chatfmt_at(place)  # split by a separator gives one part at least
        if type(place) is int or isinstance(place, slice):
            return list(self)[place]
        raise TypeError("list indices must be integers or slices")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TraceRefused(f"`{name}` of the parts of a text")


for _name in ("str", "repr", "eq", "ne", "lt", "le", "gt", "ge", "add", "radd", "mul", "rmul", "hash", "format"):
    setattr(SplitParts, f"__{_name}__", refuser(_name))
