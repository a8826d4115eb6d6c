"""The content-loss guard: whether each text of a conversation reaches the rendered text.

Templates drop what they do not expect, and say nothing: a system message, a role by another name, the tools. The guard
renders a conversation with private-use marks around each text (see `marks`) and looks for them in the output. Blank
text is never lost, and a text that is trimmed is not lost either.

Reasoning has a rule of its own: a template that prints the reasoning of the last answer and leaves that of earlier
answers out does so by design. The guard counts it (`Guard.notes`) and does not fail. A template that prints no
reasoning at all loses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ...errors import Location, TemplateError
from ...json_columns import JSON, TEXT, integers
from ...rendering import ConversationBatch
from ..masks.markers import CALLS, CONTENT, REASONING, TAG, Marked, Plan, Slot, mark, only, read
from ..masks.masker import to_chats
from ..single import Chat, TemplateRenderer, Turns

PLAN = Plan(tools=True, values=True)
FIRST_ROWS = 200
"""Rows of a guard's life that are checked in full; after them a row is checked where its shape is new."""
_THOUGHTS: tuple[Turns, ...] = (
    [{"role": "user", "content": "x"}, {"role": "assistant", "reasoning_content": "x", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nx"}],
)
_KINDS = {CONTENT: "the text", REASONING: "the reasoning", CALLS: "a tool call"}


class Loss(Struct, frozen=True):
    """A text of a conversation that its rendered text lacks."""

    message: int | None
    """The index of the message; None for the tools and the documents."""
    role: str
    field: str
    """`content`, `reasoning`, `tool_calls`, `tools` or `documents`."""
    by_design: bool = False
    """Whether it is the reasoning of an earlier answer, and the template prints that of the last."""
    row: int | None = None
    """The index of the row in its batch."""

    def allowed(self, allow: Collection[str]) -> bool:
        """Whether `allow` names what vanished: the field, the role of a lost message, or `all`."""
        names = {self.field, "all"} | ({self.role} if self.field == CONTENT else set())
        return not names.isdisjoint(allow)

    def error(self, template: str, *, fitted: bool = False) -> TemplateError:
        """The error that ends a run; its location has the row in the batch and the message."""
        what = (
            f"{_KINDS[self.field]} of role `{self.role}`"
            if self.message is not None
            else f"the {self.field} of the row"
        )
        name = self.role if self.field == CONTENT else self.field
        adapt = "" if fitted else "`--fit` adapts the data where it can, "
        hint = f"{adapt}`--allow-loss {name}` lets it go"
        at = Location(row=self.row, message=self.message)
        return TemplateError(f"template `{template}` loses {what}", hint=hint, at=at, code="template.loss")


def lost(voice: TemplateRenderer, chat: Chat) -> list[Loss]:
    """What the template drops of a conversation, in order; empty where the template refuses it as a whole."""
    return _Finder(voice).lost(chat)


class _Finder:
    """Finds losses; asks the template once what it does with reasoning."""

    def __init__(self, voice: TemplateRenderer) -> None:
        self.voice = voice

    @cached_property
    def thinks(self) -> frozenset[bool]:
        """Which reasoning of a last answer the template prints: its own field (False), that in the content (True)."""
        ways = [(inline, self._missing(Chat(turns))) for inline, turns in enumerate(_THOUGHTS)]
        return frozenset(bool(inline) for inline, missing in ways if missing == [])

    def lost(self, chat: Chat) -> list[Loss]:
        losses = [self._loss(chat.messages, slot) for slot in self._missing(chat) or ()]
        return list(dict.fromkeys(losses))

    def _missing(self, chat: Chat) -> list[Slot] | None:
        """The texts that are not printed; None where the template refuses the conversation."""
        text = self.voice.text_or_none(chat)
        marked = mark(chat, PLAN)
        if text is None or marked is None:
            return None
        said = self.voice.text_or_none(marked.chat)
        if said is not None and (reading := read(said, marked)).text == text:
            return list(reading.lost)
        return [slot for number, slot in enumerate(marked.slots) if not self._shows(marked, number)]

    def _shows(self, marked: Marked, number: int) -> bool:
        """Whether a text is printed when it alone is marked, for templates that many marks disturb."""
        said = self.voice.text_or_none(only(marked, number))
        return said is None or chr(marked.base + 2 * number) in said or chr(marked.base + 2 * number + 1) in said

    def _loss(self, messages: Turns, slot: Slot) -> Loss:
        if slot.message is None:
            return Loss(None, slot.field, slot.field)
        role = str(messages[slot.message].get("role", ""))
        earlier = any(message.get("role") in ("user", "assistant") for message in messages[slot.message + 1 :])
        by_design = slot.field == REASONING and earlier and slot.inline in self.thinks
        return Loss(slot.message, role, slot.field, by_design)


class Guard:
    """Watches the conversations of one task: the first rows in full, then a row of each new shape.

    A shape is what a message is (role, which fields, empty or not, with tags of reasoning), what the message before it
    is, and whether it is the first or the last. It is told from the columns alone, so that a row of a known shape costs
    next to nothing.
    """

    def __init__(self, voice: TemplateRenderer, allow: Collection[str] = (), first_rows: int = FIRST_ROWS) -> None:
        self.voice, self.allow = voice, frozenset(allow)
        self.notes: Counter[str] = Counter()
        """Losses that were let go, by role or field; of the rows that were checked."""
        self.checked = 0
        self._left = first_rows
        self._seen: set[int] = set()
        self._finder = _Finder(voice)

    def check(self, chats: ConversationBatch, whole: npt.NDArray[np.bool_] | None = None) -> Loss | None:
        """The first loss in a column that is not allowed, with its row, or None.

        `whole` are the rows that are known to print every text (`Rendered.whole`), which need no look.
        """
        rows = self._unseen(chats, whole)
        if not rows:
            return None
        for row, chat in zip(rows, to_chats(chats.take(pa.array(rows, pa.int64()))), strict=True):
            loss = None if chat is None else self._first(chat)
            if loss is not None:
                return replace(loss, row=row)
        return None

    def _first(self, chat: Chat) -> Loss | None:
        self.checked += 1
        for loss in self._finder.lost(chat):
            if not loss.by_design and not loss.allowed(self.allow):
                return loss
            self.notes[f"{loss.field} of earlier answers" if loss.by_design else _name(loss)] += 1
        return None

    def _unseen(self, chats: ConversationBatch, whole: npt.NDArray[np.bool_] | None) -> list[int]:
        """The rows to check: those of the first rows, and the first row of each shape that is new."""
        count = min(self._left, len(chats))
        self._left -= count
        doubted = np.arange(len(chats)) if whole is None else np.flatnonzero(~whole)
        if not len(doubted):
            return []
        if len(doubted) < len(chats):
            chats = chats.take(integers(doubted))
        rows, shapes = message_shapes(chats.messages, (chats.tools, chats.documents))
        unique, first = np.unique(shapes, return_index=True)
        pairs = zip(unique.tolist(), first.tolist(), strict=True)
        new = {shape: int(doubted[rows[place]]) for shape, place in pairs if shape not in self._seen}
        self._seen.update(new)
        return sorted({*doubted[doubted < count].tolist(), *new.values()})


def message_shapes(
    messages: pa.ListArray, extras: Sequence[pa.Array | None] = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """For each message of a column, the index of its row and a number for its shape and its neighbour's.

    Equal numbers mean the same role, fields, emptiness and tags of reasoning, the same of the message before, the same
    place (first, last) and the same presence of each of `extras`.
    """
    lengths = messages.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    turns = messages.flatten()
    fills = [_named(field.name, turns.field(place)) for place, field in enumerate(turns.type)]
    codes = _mixed(_roles(turns), [_tagged(turns), *fills])
    begins = np.cumsum(lengths) - lengths
    starts = np.arange(len(rows)) == begins[rows]
    ends = np.arange(len(rows)) == (begins + lengths - 1)[rows]
    before = np.where(starts, np.uint64(0), np.roll(codes, 1))
    there = [_fill(column)[rows] for column in extras if column is not None]
    return rows, _mixed(codes, [before, ends.astype(np.uint64), *there])


def _tagged(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """1 where reasoning stands in the content of a turn, between tags, which templates cut out; else 0."""
    place = turns.type.get_field_index("content")
    if place < 0 or turns.type[place].type not in (TEXT, JSON):
        return np.zeros(len(turns), np.uint64)
    column = turns.field(place).cast(pa.large_string())
    found: npt.NDArray[np.uint64] = pc.match_substring_regex(column, TAG).fill_null(False).cast(pa.uint64()).to_numpy()
    return found


def _roles(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """A number for the role of each turn, the same in every batch."""
    place = turns.type.get_field_index("role")
    if place < 0:
        return np.zeros(len(turns), np.uint64)
    encoded = turns.field(place).cast(pa.string()).dictionary_encode()
    numbers = np.array([*(crc32(name.encode()) for name in encoded.dictionary.to_pylist()), 0], np.uint64)
    indices: npt.NDArray[np.int64] = encoded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)
    return numbers[indices]


def _named(name: str, column: pa.Array) -> npt.NDArray[np.uint64]:
    """How a field is filled, told apart from other fields: batches of one file may have different ones."""
    return _fill(column) + np.uint64(crc32(name.encode()) << 3)


def _fill(column: pa.Array) -> npt.NDArray[np.uint64]:
    """0 where a field is absent, 1 where it is empty, else 2; of JSON text, 3 where it is a list, 4 an object."""
    if not (pa.types.is_string(column.type) or column.type == JSON):
        there: npt.NDArray[np.uint64] = pc.is_valid(column).to_numpy(zero_copy_only=False).astype(np.uint64)
        return there * np.uint64(2)
    empty = 2 if column.type == JSON else 0
    length: npt.NDArray[np.int64] = pc.binary_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    filled: npt.NDArray[np.uint64] = np.where(length < 0, 0, np.where(length <= empty, 1, 2)).astype(np.uint64)
    if column.type == JSON:
        for more, bracket in enumerate("[{", start=1):
            begins = pc.starts_with(column, bracket).fill_null(False).to_numpy(zero_copy_only=False)
            filled += begins.astype(np.uint64) * np.uint64(more)
    return filled


def _mixed(codes: npt.NDArray[np.uint64], others: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """The codes with other columns of numbers mixed in, as a hash of 64 bits; wraps around on purpose."""
    with np.errstate(over="ignore"):
        for other in others:
            codes = (codes ^ (codes >> np.uint64(31)) ^ other.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return codes


def _name(loss: Loss) -> str:
    return loss.role if loss.field == CONTENT else loss.field
