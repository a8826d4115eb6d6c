"""What a check is given, a messages column of a batch taken apart, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ..json_columns import JSON, TEXT, dumps, is_turns
from ..schema import CONVERSATION_COLUMNS, REASONING_FIELDS, ROLES
from ..turn_columns import BoolArray, IntArray, any_turn, field, lengths_of, offsets_of, rows_of_turns, to_bools

Roles = np.ndarray[Any, np.dtype[np.int8]]


class Finding(NamedTuple):
    """One thing found: `row` is the index in the batch, `message` the turn in its column, None for the whole row."""

    code: str
    row: int
    message: int | None
    detail: str
    column: str


class Limits(Struct, frozen=True):
    """What the checks that need to be told something are told."""

    literals: tuple[str, ...] = ()
    """The special tokens and markup of the template, for `token.control`."""
    encodes_twice: Callable[[], bool] = lambda: False
    """Whether the template prints arguments given as text as a JSON string, for `tool.encoded`; asked where one is."""
    max_chars: int | None = None
    """The longest conversation, in characters of content, for `row.too_long`."""


class ColumnView(Struct, frozen=True, dict=True):
    """One messages column of a batch, flattened, with what several checks ask for computed once."""

    name: str
    column: pa.ListArray
    prompted: BoolArray
    """Rows whose conversation began in the column `prompt`."""
    prompt: pa.ListArray | None = None

    @cached_property
    def turns(self) -> pa.StructArray:
        return self.column.flatten()

    @cached_property
    def lengths(self) -> IntArray:
        return lengths_of(self.column)

    @cached_property
    def starts(self) -> IntArray:
        return offsets_of(self.lengths)[:-1]

    @cached_property
    def rows(self) -> IntArray:
        return rows_of_turns(self.column)

    @cached_property
    def roles(self) -> Roles:
        """The place of each turn's role in ROLES, -1 for another or none."""
        role = self.values("role")
        known: Iterable[str] = map(dumps, ROLES) if role.type == JSON else ROLES
        if role.type not in (TEXT, JSON):
            return np.full(len(self.turns), -1, np.int8)
        places = pc.index_in(role if role.type == TEXT else role.cast(TEXT), value_set=pa.array(known, TEXT))
        whole = pc.fill_null(places, -1) if places.null_count else places
        return np.asarray(whole.to_numpy(zero_copy_only=False), np.int8)

    @cached_property
    def content(self) -> pa.Array:
        return self.values("content")

    @cached_property
    def silent(self) -> BoolArray:
        """Turns without calls and reasoning: all they can say is their content."""
        silent = np.ones(len(self.turns), np.bool_)
        for name in ("tool_calls", "function_call", *REASONING_FIELDS):
            if self.turns.type.get_field_index(name) >= 0:
                silent &= ~_says_something(self.values(name))
        return silent

    @cached_property
    def blank(self) -> BoolArray:
        """Turns whose content is white space and nothing else, not even nothing."""
        if self.content.type == JSON:
            return to_bools(pc.match_substring_regex(self.content, r'^"(\s|\\[nrtf])+"$'))
        if self.content.type != TEXT:
            return np.zeros(len(self.rows), np.bool_)
        return to_bools(pc.utf8_is_space(self.content))

    @cached_property
    def empty(self) -> BoolArray:
        """Turns whose content is empty text or a list without parts."""
        if self.content.type == JSON:
            return to_bools(pc.is_in(self.content, value_set=pa.array(['""', "[]"], JSON)))
        if self.content.type != TEXT:
            return np.zeros(len(self.rows), np.bool_)
        return to_bools(pc.equal(pc.binary_length(self.content), 0))

    @cached_property
    def missing(self) -> BoolArray:
        """Turns without content, or whose content is null."""
        missing = to_bools(self.content.is_null()) if self.content.null_count else np.zeros(len(self.rows), np.bool_)
        if self.content.type == JSON:
            missing |= to_bools(pc.equal(self.content, pa.scalar("null", JSON)))
        return missing

    @cached_property
    def begins(self) -> BoolArray:
        """Rows whose conversation begins in this column."""
        there = np.asarray(self.column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
        return np.asarray(there & ~self.prompted & (self.name != "completion"), np.bool_)

    def values(self, name: str) -> pa.Array:
        """One field of the turns; nulls where no turn has it."""
        return field(self.turns, name)

    def has(self, turns: BoolArray) -> BoolArray:
        """Which rows have one of these turns."""
        return any_turn(self.column, turns)

    def at(self, code: str, turns: BoolArray, detail: Callable[[int], str] | str) -> Iterator[Finding]:
        """A finding for each of these turns."""
        for place in np.flatnonzero(turns).tolist():
            yield self.finding(code, place, detail if isinstance(detail, str) else detail(place))

    def finding(self, code: str, turn: int, detail: str) -> Finding:
        """A finding for one turn."""
        row = int(self.rows[turn])
        return Finding(code, row, turn - int(self.starts[row]), detail, self.name)

    def whole(self, code: str, rows: BoolArray, detail: str) -> Iterator[Finding]:
        """A finding for each of these rows."""
        return (Finding(code, row, None, detail, self.name) for row in np.flatnonzero(rows).tolist())


def column_views(batch: pa.RecordBatch) -> list[ColumnView]:
    """The messages columns of a CONVERSATIONS batch."""
    prompt = batch.column("prompt") if "prompt" in batch.schema.names else None
    prompted = np.zeros(len(batch), np.bool_) if prompt is None else to_bools(prompt.is_valid())
    talks = prompt if prompt is not None and is_turns(prompt.type) else None
    return [
        ColumnView(name, batch.column(name), prompted & (name not in ("messages", "prompt")), talks)
        for name in CONVERSATION_COLUMNS
        if name in batch.schema.names and is_turns(batch.schema.field(name).type)
    ]


def _says_something(values: pa.Array) -> BoolArray:
    if values.type == JSON:
        return to_bools(pc.invert(pc.is_in(values, value_set=pa.array(["null", "[]", "{}", '""'], JSON)))) & to_bools(
            values.is_valid()
        )
    return to_bools(pc.not_equal(values, "")) if values.type == TEXT else to_bools(values.is_valid())
