"""The slots of a program: the pieces that print a text unchanged or stripped.

The program of a row shows which texts are printed, without another render. A piece that prints a part of a text, or
something computed from it, is not a slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ... import json_columns, schema
from ...rendering import ConversationBatch
from ...schema import REASONING_FIELDS
from .program import Expression, Piece, Program, Question, leaves_of

TEXT_FIELDS = frozenset(("content", *REASONING_FIELDS))
"""The fields of a message that hold its text."""

_NEGATIVE_ANSWERS = {
    "has": False,
    "startswith": False,
    "endswith": False,
    "is": False,
    "count": 0,
    "parts": 1,
    "rparts": 1,
    "find": -1,
}
"""Answers that markers around a text do not change: what is not in a text is not in it with markers either."""


class Slot(Struct, frozen=True):
    """A text printed in full, except for whitespace at its start (`left`) or end (`right`)."""

    turn: int
    field: str
    left: bool
    right: bool


def slot_of(expression: Expression) -> Slot | None:
    """Return the expression as a slot; None if it does more with the text than strip it."""
    left = right = False
    while expression[0] != "leaf":
        name, below, *constants = expression
        if not _strips(name, constants):
            return None
        left, right, expression = left or name != "rstrip", right or name != "lstrip", below
    path = expression[1]
    return Slot(int(path[1]), str(path[2]), left, right) if len(path) == 3 else None


def _strips(name: str, constants: Sequence[Any]) -> bool:
    """Return whether an operation takes white space away from the ends of a text, and nothing else."""
    return name in ("strip", "lstrip", "rstrip") and not (constants[0] or "\n").strip()


def prints_all(program: Program) -> bool:
    """Return whether the program loses no text of a conversation: it prints each in full, or refuses them all."""
    if program.refusal:
        return True
    pieces = [piece for piece in program.pieces if not isinstance(piece, str)]
    printed = {next(leaves_of(piece)) for piece in pieces if slot_of(piece)}
    return printed.issuperset(path for path in program.paths if path[-1] in TEXT_FIELDS)


def is_markable(program: Program) -> bool:
    """Return whether markers around texts would be printed at the program's slots and change nothing else."""
    if program.refusal:
        return False
    slots = [slot_of(piece) for piece in program.pieces if not isinstance(piece, str)]
    return all(slot and slot.field in TEXT_FIELDS for slot in slots) and all(
        _unaffected_by_markers(*guard) for guard in program.guards
    )


def _unaffected_by_markers(question: Question, answer: object) -> bool:
    """Return whether a question with this answer has the same answer for a text with markers."""
    name, subject, *constants = question
    if next(leaves_of(subject))[-1] not in TEXT_FIELDS:
        return True
    if not slot_of(subject):
        return False
    if name == "true" or (name, *constants) == ("length>", 0):
        return True
    negative = name in _NEGATIVE_ANSWERS and answer == _NEGATIVE_ANSWERS[name]
    return negative and len(constants) > 0 and constants[0] not in ("", None)


_OF_EACH_LETTER = frozenset(
    ("lower", "upper", "capitalize", "title", "swapcase", "casefold", "json", "str", "titled", "indent")
)
"""Operations that keep each letter of a text, changed or not."""


def tells_what_is_printed(program: Program) -> bool:
    """Return whether all rows of a program print the same of their texts, as far as these are blank or not."""
    return all(map(_is_whole, program.pieces)) and all(_is_whole(subject) for (_, subject, *_), _ in program.guards)


def _is_whole(piece: Piece) -> bool:
    """Return whether an expression keeps each letter of its texts, white space at the ends aside."""
    if isinstance(piece, str) or piece[0] == "leaf":
        return True
    name, below, *constants = piece
    if name == "cat":
        return all(map(_is_whole, below))
    return (_strips(name, constants) or name in _OF_EACH_LETTER) and _is_whole(below)


def has_only_text(chats: ConversationBatch) -> bool:
    """Return whether conversations hold nothing but text: no calls, parts, tools or documents."""
    lists = any(
        field.type != json_columns.TEXT and field.name not in ("role", schema.KEYS)
        for field in chats.messages.type.value_type
    )
    others = (chats.tools, chats.documents)
    return not lists and all(column is None or column.null_count == len(column) for column in others)
