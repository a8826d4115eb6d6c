"""A program: a chat template traced for one shape of conversation, as plain data.

A program is a sequence of **pieces**: literals, and expressions over the texts of the conversation. Its **guards** are
the questions that the template asked about those texts, with the answers. For any conversation of the same shape with
the same answers, the rendered text is the concatenation of the pieces.

    expression   ("leaf", path)                       a text (or number) of the conversation
                 (operation, expression, *constants)  an operation of `OPERATIONS` on it
                 ("cat", (literal or expression, …))  a concatenation
    guard        ((question, expression, *constants), answer)       a question of `QUESTIONS`

Paths are tuples of keys and list indices that start with `messages`. Programs survive JSON, so that a sandbox process
can trace. `tracer` makes programs, `tables` runs them over columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2.filters import do_indent, do_title
from msgspec import Struct

Path = tuple[str | int, ...]
Expression = tuple[Any, ...]
Piece = str | Expression
Question = tuple[Any, ...]
Leaves = Mapping[Path, Any]
"""The text or number at each path of one conversation."""

OPERATIONS: dict[str, Callable[..., str]] = {
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "removeprefix": str.removeprefix,
    "removesuffix": str.removesuffix,
    "replace": str.replace,
    "lower": str.lower,
    "upper": str.upper,
    "capitalize": str.capitalize,
    "title": str.title,
    "swapcase": str.swapcase,
    "casefold": str.casefold,
    "split": lambda text, separator, most, place: text.split(separator, most)[place],
    "rsplit": lambda text, separator, most, place: text.rsplit(separator, most)[place],
    "splitlines": lambda text, keep, place: text.splitlines(keep)[place],
    "slice": lambda text, start, stop, step: text[start:stop:step],
    "json": lambda value, ascii: json.dumps(value, ensure_ascii=ascii),
    "str": str,
    "titled": do_title,
    "indent": lambda text, width, first, blank: do_indent(text, width, first, blank),
}
"""Operations that map a text to a text; `json` and `str` also accept a number."""

QUESTIONS: dict[str, Callable[..., Any]] = {
    "true": bool,
    "has": lambda text, part: part in text,
    "within": lambda text, whole: text in whole,
    "startswith": str.startswith,
    "endswith": str.endswith,
    "is": lambda value, other: value == other,
    "length": len,
    "length>": lambda text, number: len(text) > number,
    "parts": lambda text, separator, most: len(text.split(separator, most)),
    "rparts": lambda text, separator, most: len(text.rsplit(separator, most)),
    "lines": lambda text, keep: len(text.splitlines(keep)),
    "find": str.find,
    "rfind": str.rfind,
    "count": str.count,
    "isdigit": str.isdigit,
    "isalpha": str.isalpha,
    "isalnum": str.isalnum,
    "isspace": str.isspace,
    "isupper": str.isupper,
    "islower": str.islower,
}
"""Questions about a text; the answer is a bool or an int."""


class Untraceable(Struct, frozen=True):
    """The reason why there is no program; `every_row`: it holds for all conversations."""

    reason: str
    every_row: bool = False


class Program(Struct, frozen=True):
    """Pieces and guards for one shape; `spans` are the `{% generation %}` blocks as `[start, end)` over the pieces.

    `spans` is None if a block lies inside a macro or a `{% set %}` block, so that its position is not that of its text.
    `paths` are those of all texts of the conversation. A program with a `refusal` raises the error of Jinja of that
    name, and its pieces are the message.
    """

    pieces: tuple[Piece, ...]
    guards: tuple[tuple[Question, Any], ...] = ()
    spans: tuple[tuple[int, int], ...] | None = ()
    paths: tuple[Path, ...] = ()
    refusal: str = ""

    def accepts(self, leaves: Leaves) -> bool:
        """Return whether a conversation of the shape answers every guard as the traced one did."""
        try:
            return all(same(ask(question, leaves), answer) for question, answer in self.guards)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError):
            return False

    def text(self, leaves: Leaves) -> str:
        """Return the rendered text of a conversation that the program accepts."""
        return "".join(piece if isinstance(piece, str) else evaluate(piece, leaves) for piece in self.pieces)

    def rendered(self) -> frozenset[Path]:
        """Return the paths whose text, or a part of it, the program prints."""
        return frozenset(path for piece in self.pieces for path in leaves_of(piece))

    def unrendered(self) -> tuple[Path, ...]:
        """Return the paths of texts that the program never prints, in order."""
        printed = self.rendered()
        return tuple(path for path in self.paths if path not in printed)

    def to_json(self) -> str:
        """Return the program as JSON; `from_json` restores it."""
        return json.dumps([self.pieces, self.guards, self.spans, self.paths, self.refusal], ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Program:
        """Return the program that `to_json` wrote."""
        return Program(*_tuples(json.loads(text)))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def growth(expression: Piece) -> float:
    """Return how many times longer than the text it reads an expression may be; 1 for each 1000 characters of its own.

    Raises KeyError, TypeError, ValueError, IndexError or AttributeError for what is not an expression.
    """
    if isinstance(expression, str):
        return 1 + len(expression) // 1000
    name, below, *constants = expression
    if name == "leaf":
        return 1
    if name == "cat":
        return sum(map(growth, below))
    OPERATIONS[name]
    times: float = 1
    if name == "replace":
        old, new, *_ = constants
        times = len(new) / len(old) if old else 1 + len(new)
    if name == "indent" and constants:
        times = 1 + (constants[0] if isinstance(constants[0], int) else len(str(constants[0])))
    return growth(below) * max(1, times)


def same(answer: Any, expected: Any) -> bool:
    """Return whether two answers are equal in value and type."""
    return type(answer) is type(expected) and bool(answer == expected)


def evaluate(expression: Piece, leaves: Leaves) -> Any:
    """Return the value of an expression over the texts of one conversation."""
    if isinstance(expression, str):
        return expression
    name = expression[0]
    if name == "leaf":
        return leaves[expression[1]]
    if name == "cat":
        return "".join([evaluate(part, leaves) for part in expression[1]])
    return OPERATIONS[name](evaluate(expression[1], leaves), *expression[2:])


def ask(question: Question, leaves: Leaves) -> Any:
    """Return the answer to a question over the texts of one conversation."""
    return QUESTIONS[question[0]](evaluate(question[1], leaves), *question[2:])


def leaves_of(expression: Piece) -> Iterator[Path]:
    """Yield the paths that an expression reads, in order, with repeats."""
    if isinstance(expression, str):
        return
    if expression[0] == "leaf":
        yield expression[1]
    elif expression[0] == "cat":
        for part in expression[1]:
            yield from leaves_of(part)
    else:
        yield from leaves_of(expression[1])


def describe(program: Program) -> str:
    """Return a readable form of the program: its guards, then one line per piece."""
    guards = [f"where {spell(question)} is {answer!r}" for question, answer in program.guards]
    starts = {start for start, _ in program.spans or ()}
    ends = {end for _, end in program.spans or ()}
    lines = [f"raise {program.refusal}"] if program.refusal else []
    for place, piece in enumerate((*program.pieces, "")):
        lines += ["end of generation"] if place in ends else []
        lines += ["generation"] if place in starts else []
        lines += [] if piece == "" else [f"print {spell(piece)}"]
    return "\n".join([*guards, *lines])


def spell(expression: Piece) -> str:
    """Return an expression or question as it would stand in a template: `messages[1].content.strip()`."""
    if isinstance(expression, str):
        return repr(expression)
    name, subject, *constants = expression
    if name == "leaf":
        return _spell_path(subject)
    if name == "cat":
        return "(" + " + ".join(map(spell, subject)) + ")"
    if name in ("split", "rsplit", "splitlines"):
        return f"{spell(subject)}.{name}({', '.join(map(repr, constants[:-1]))})[{constants[-1]}]"
    return f"{spell(subject)}.{name}({', '.join(map(repr, constants))})"


def _spell_path(path: Path) -> str:
    words = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return "".join(words).removeprefix(".")
