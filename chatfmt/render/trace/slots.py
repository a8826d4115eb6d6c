"""The slots of a program: which texts it prints as they are, or stripped, and what that proves of every row.

A row that a program renders has its texts where the program's slots are, so that nothing need be rendered to know
that a text was printed. A text of which a program prints a part or something made of it is no slot.
"""

from __future__ import annotations

from msgspec import Struct

from ... import json_columns, schema
from ...rendering import ConversationBatch
from ...schema import REASONING_FIELDS
from .program import Expression, Program, leaves_of

TEXT_FIELDS = frozenset(("content", *REASONING_FIELDS))
"""The fields of a message that hold what is said."""


class Slot(Struct, frozen=True):
    """A text printed whole, but for whitespace at its start (`left`) or its end (`right`)."""

    turn: int
    field: str
    left: bool
    right: bool


def slot_of(expression: Expression) -> Slot | None:
    """The slot that an expression is, None where it does more with a text than strip it."""
    left = right = False
    while expression[0] != "leaf":
        name, below, *characters = expression
        if name not in ("strip", "lstrip", "rstrip") or (characters[0] or "\n").strip():
            return None
        left, right, expression = left or name != "rstrip", right or name != "lstrip", below
    path = expression[1]
    return Slot(int(path[1]), str(path[2]), left, right) if len(path) == 3 else None


def prints_all(program: Program) -> bool:
    """Whether each thing said in a conversation is printed whole, in every row that the program renders."""
    pieces = [piece for piece in program.pieces if not isinstance(piece, str)]
    printed = {next(leaves_of(piece)) for piece in pieces if slot_of(piece)}
    return printed.issuperset(path for path in program.paths if path[-1] in TEXT_FIELDS)


def has_only_text(chats: ConversationBatch) -> bool:
    """Whether conversations hold nothing but texts that are said: no calls, parts, tools or documents."""
    lists = any(
        field.type != json_columns.TEXT and field.name not in ("role", schema.KEYS)
        for field in chats.messages.type.value_type
    )
    others = (chats.tools, chats.documents)
    return not lists and all(column is None or column.null_count == len(column) for column in others)
