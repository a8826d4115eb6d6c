"""Flattened view of a messages column, and the Finding type that checks return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ..json_columns import JSON, TEXT, dumps, is_turns, media_columns, message_columns
from ..schema import CONVERSATION_COLUMNS, REASONING_FIELDS, ROLES, IgnoredWeights
from ..turn_columns import BoolArray, IntArray, any_turn, field, lengths_of, offsets_of, rows_of_turns, to_bools

Roles = np.ndarray[Any, np.dtype[np.int8]]
SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL = range(5)  # indexes in ROLES


class Finding(NamedTuple):
    """A problem found: `row` is the index in the batch, `message` that of the turn in its column, None for the row."""

    code: str
    row: int
    message: int | None
    detail: str
    column: str
    hint: str = ""
    """What helps here; empty for the hint of the check."""


class Limits(Struct, frozen=True):
    """The settings of checks."""

    encodes_twice: Callable[[], bool] = lambda: False
    """Returns whether the template prints arguments that are text as a JSON string, for `tool.encoded`."""
    masked: bool = False
    """Whether trained text is marked, for `msg.weight`."""
    ignored_weights: IgnoredWeights = "none"
    """Which weights the trainer of the rows does not read, for `msg.ignored_weight`."""
    unread_calls: str = ""
    """What to type if the trainer of the rows reads no calls, for `tool.unread`; empty if it does."""
    named: tuple[str, ...] = ()
    """The codes that `--fail-on` or the trainer names, for checks that look for nothing else."""
    written: bool = False
    """Whether conversations are written as they are, not as text, for `json.integer`."""
    is_file: Callable[[str], bool] | None = None
    """Returns whether there is a file of that path, for `media.file`; None where that is not known."""
    max_chars: int | None = None
    """Maximum characters of content in a conversation, for `row.too_long`."""


class ColumnView(Struct, frozen=True, dict=True):
    """One messages column of a batch, flattened; what several checks need is computed once."""

    name: str
    column: pa.ListArray
    prompted: BoolArray
    """Marks rows whose conversation starts in the column `prompt`."""
    prompt: ColumnView | None = None
    chosen: pa.ListArray | None = None
    """The better answers, beside the column `rejected`."""
    tools: pa.Array | None = None
    """The tools of each row, as JSON."""
    media: Mapping[str, pa.ListArray] = {}
    """The columns of media."""
    others: Sequence[ColumnView] | None = None
    """Of the first messages column of a batch, the views of the others."""
    beside: Mapping[str, pa.Array] = {}
    """The columns beside the messages, tools and kept ones among them; only the first view has them."""

    @property
    def is_answer(self) -> bool:
        """Whether the column holds answers, which a conversation without them is not trained on."""
        return self.name in ("completion", "chosen", "rejected")

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
        """The index of each turn's role in ROLES, -1 for another role or none."""
        role = self.values("role")
        known: Iterable[str] = map(dumps, ROLES) if role.type == JSON else ROLES
        if role.type not in (TEXT, JSON):
            return np.full(len(self.turns), -1, np.int8)
        indexes = pc.index_in(role if role.type == TEXT else role.cast(TEXT), value_set=pa.array(known, TEXT))
        filled = pc.fill_null(indexes, -1) if indexes.null_count else indexes
        return np.asarray(filled.to_numpy(zero_copy_only=False), np.int8)

    @cached_property
    def content(self) -> pa.Array:
        return self.values("content")

    @cached_property
    def content_only(self) -> BoolArray:
        """Marks turns without calls and reasoning."""
        return ~self.filled(("tool_calls", "function_call", *REASONING_FIELDS))

    def filled(self, names: Iterable[str]) -> BoolArray:
        """Mark the turns with a value in one of these fields."""
        filled = np.zeros(len(self.turns), np.bool_)
        for name in names:
            if self.turns.type.get_field_index(name) >= 0:
                filled |= _is_filled(self.values(name))
        return filled

    @cached_property
    def blank(self) -> BoolArray:
        """Marks turns whose content is white space; empty text is not blank."""
        if self.content.type == JSON:
            return to_bools(pc.match_substring_regex(self.content, r'^"(\s|\\[nrtf])+"$'))
        if self.content.type != TEXT:
            return np.zeros(len(self.rows), np.bool_)
        return to_bools(pc.utf8_is_space(self.content))

    @cached_property
    def speechless(self) -> BoolArray:
        """Marks turns whose content is white space, empty or missing."""
        return self.blank | self.empty | self.missing

    @cached_property
    def empty(self) -> BoolArray:
        """Marks turns whose content is empty text or an empty list."""
        if self.content.type == JSON:
            return to_bools(pc.is_in(self.content, value_set=pa.array(['""', "[]"], JSON)))
        if self.content.type != TEXT:
            return np.zeros(len(self.rows), np.bool_)
        return to_bools(pc.equal(pc.binary_length(self.content), 0))

    @cached_property
    def missing(self) -> BoolArray:
        """Marks turns without content, or with null content."""
        missing = to_bools(self.content.is_null()) if self.content.null_count else np.zeros(len(self.rows), np.bool_)
        if self.content.type == JSON:
            missing |= to_bools(pc.equal(self.content, pa.scalar("null", JSON)))
        return missing

    @cached_property
    def begins(self) -> BoolArray:
        """Marks rows whose conversation starts in this column."""
        return np.asarray(to_bools(self.column.is_valid()) & ~self.prompted & (self.name != "completion"), np.bool_)

    def values(self, name: str) -> pa.Array:
        """One field of the turns; nulls if no turn has it."""
        return field(self.turns, name)

    def has(self, turns: BoolArray) -> BoolArray:
        """Mark the rows that have one of the marked turns."""
        return any_turn(self.column, turns)

    def at_turns(
        self,
        code: str,
        turns: BoolArray,
        detail: Callable[[int], str] | str,
        hint: Callable[[int], str] = lambda turn: "",
    ) -> Iterator[Finding]:
        """Yield a finding for each marked turn."""
        marked = np.flatnonzero(turns)
        rows = self.rows[marked]
        places = zip(marked.tolist(), rows.tolist(), (marked - self.starts[rows]).tolist(), strict=True)
        for turn, row, message in places:
            found = detail if isinstance(detail, str) else detail(turn)
            yield Finding(code, row, message, found, self.name, hint(turn))

    def finding(self, code: str, turn: int, detail: str, hint: str = "") -> Finding:
        """The finding for one turn."""
        row = int(self.rows[turn])
        return Finding(code, row, turn - int(self.starts[row]), detail, self.name, hint)

    def at_needless_turns(self, code: str, turns: BoolArray, detail: str) -> Iterator[Finding]:
        """Yield a finding for each marked turn, which dropping helps unless nothing, or no answer, is left then."""
        if turns.any():
            is_answer = self.roles == ASSISTANT
            left = np.where(is_answer, self.has(~turns & is_answer)[self.rows], self.has(~turns)[self.rows])
            skip = f"--fail-on {code} --on-error skip"
            yield from self.at_turns(code, turns, detail, lambda turn: "" if left[turn] else skip)

    def at_rows(self, code: str, rows: BoolArray, detail: str) -> Iterator[Finding]:
        """Yield a finding for each marked row."""
        return (Finding(code, row, None, detail, self.name) for row in np.flatnonzero(rows).tolist())


def column_views(batch: pa.RecordBatch) -> list[ColumnView]:
    """A view of each messages column of a CONVERSATIONS batch."""
    prompt = batch.column("prompt") if "prompt" in batch.schema.names else None
    prompted = np.zeros(len(batch), np.bool_) if prompt is None else to_bools(prompt.is_valid())
    is_asked = prompt is not None and is_turns(prompt.type)
    asked = ColumnView("prompt", prompt, np.zeros(len(batch), np.bool_)) if is_asked else None
    chosen = batch.column("chosen") if "chosen" in batch.schema.names else None
    columns = message_columns(batch)
    beside = {name: batch.column(name) for name in batch.schema.names if name not in CONVERSATION_COLUMNS}
    views = [
        ColumnView(
            name,
            column,
            prompted & (name not in ("messages", "prompt")),
            asked,
            chosen if name == "rejected" else None,
            batch.column("tools") if "tools" in batch.schema.names else None,
            media_columns(batch),
            beside={} if number else beside,
        )
        for number, (name, column) in enumerate(columns)
    ]
    return [replace(view, others=views[1:]) if view is views[0] else view for view in views]


def _is_filled(values: pa.Array) -> BoolArray:
    if values.type == JSON:
        return to_bools(pc.invert(pc.is_in(values, value_set=pa.array(["null", "[]", "{}", '""'], JSON)))) & to_bools(
            values.is_valid()
        )
    return to_bools(pc.not_equal(values, "")) if values.type == TEXT else to_bools(values.is_valid())
