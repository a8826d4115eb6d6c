"""Number the shape of every conversation of a batch, without Python objects per row.

Two conversations have the same **shape** if their turns agree, one by one, in their **class** (the keys and their
order, the text of `role` and `type`, and the JSON text of tool calls and parts where few values repeat), and if tools,
documents and template variables agree. Only texts may differ. The numbers stay the same from batch to batch.
Everything here is bounded; beyond the bounds a conversation has no shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ... import json_columns, schema
from ...rendering import ConversationBatch, RenderRequest
from ...turn_columns import to_bools
from .kernels import Int64Array, TextBuffer, TextSlices, buffer_of, distinct
from .tracer import FIXED

MAX_TURNS = 64
MAX_CLASSES = 1024
MAX_STATES = 1 << 14
MAX_CELLS = 1 << 22
NO_SHAPE = -1
FEW = 32
OFTEN = 16
"""More than `FEW` different JSON values also count as few if each occurs so often on average."""
_WIDE_KEY = 1 << 40


class TextColumn(Struct, frozen=True):
    """A text field of all turns of a batch."""

    source: TextBuffer
    offsets: Int64Array

    def at(self, turns: Int64Array) -> TextSlices:
        """Return the texts of some turns, which must have the field."""
        return TextSlices(self.source, self.offsets[turns], self.offsets[turns + 1])


class TurnTable(Struct, frozen=True):
    """All turns of a batch, end to end: those of `row` are the `lengths[row]` turns from `starts[row]` on."""

    starts: Int64Array
    lengths: Int64Array
    columns: dict[str, TextColumn]
    classes: Int64Array
    """The class of each turn, `NO_SHAPE` where it has none."""
    kinds: Int64Array
    """Numbers, for this batch only, that differ where classes do, but for JSON values that differ from turn to turn."""

    def of(self, row: int) -> Int64Array:
        """Return the kinds of the turns of one conversation."""
        return self.kinds[self.starts[row] : self.starts[row] + self.lengths[row]]


_NONE = np.zeros(0, np.int64)
NO_TURNS = TurnTable(_NONE, _NONE, {}, _NONE, _NONE)
"""The turns of a batch that was not searched for shapes."""


class Classes:
    """Numbers for classes of turns, and for the constants of a row, in order of appearance."""

    def __init__(self, limit: int) -> None:
        self.limit, self._numbers = limit, dict[Hashable, int]()

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, key: Hashable) -> int:
        """Return the number of `key`, `NO_SHAPE` for a new key beyond the limit."""
        found = self._numbers.get(key)
        if found is None:
            found = len(self._numbers) if len(self._numbers) < self.limit else NO_SHAPE
            if found != NO_SHAPE:
                self._numbers[key] = found
        return found


class _Field(Struct, frozen=True):
    """A field of all turns, as texts and other values; each is null where the other is not, None if there are none."""

    name: str
    texts: pa.StringArray | None
    values: pa.Array | None


def read_turns(messages: pa.ListArray, classes: Classes, few: int = FEW) -> TurnTable:
    """Return the turns of a messages column; null conversations have none. At most `few` JSON values count as few."""
    lengths = _numbers(messages.value_lengths().fill_null(0))
    turns = messages.flatten()
    fields = [_field(field.name, column) for field, column in zip(turns.type, turns.flatten(), strict=True)]
    columns = {field.name: TextColumn(*buffer_of(field.texts)) for field in fields if field.texts is not None}
    return TurnTable(np.cumsum(lengths) - lengths, lengths, columns, *_classes_of(len(turns), fields, classes, few))


def _field(name: str, column: pa.Array) -> _Field:
    if name in FIXED or name == schema.KEYS or column.type not in (json_columns.TEXT, json_columns.JSON):
        return _Field(name, None, column)
    if column.type == json_columns.TEXT:
        return _Field(name, column, None)
    is_text = pc.starts_with(column, '"')
    if not pc.any(is_text).as_py():
        return _Field(name, None, column)
    texts = [
        None if text is None else json_columns.loads(text) for text in pc.if_else(is_text, column, None).to_pylist()
    ]
    return _Field(name, json_columns.text_array(texts), pc.if_else(is_text, None, column))


def _numbers(column: pa.Array) -> Int64Array:
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.int64)


def _classes_of(count: int, fields: Sequence[_Field], classes: Classes, few: int) -> tuple[Int64Array, Int64Array]:
    """Return the class and the kind of each turn."""
    texts = [field.texts for field in fields if field.texts is not None and field.texts.null_count]
    values = [field.values for field in fields if field.values is not None]
    coded = [(to_bools(column.is_valid()).astype(np.int64), np.zeros(count, np.bool_)) for column in texts]
    coded += [_codes(column, few if column.type == json_columns.JSON else FEW) for column in values]
    return _number(coded, count, lambda turn: classes.number(_class_key(fields, turn)))


def _number(
    coded: Sequence[tuple[Int64Array, npt.NDArray[np.bool_]]], count: int, number: Callable[[int], int]
) -> tuple[Int64Array, Int64Array]:
    """Return a number per position, and another that is equal where all codes are.

    `number` is asked at the first of the positions with equal codes; `NO_SHAPE` where a mask of `coded` is True.
    """
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    loose = np.any([np.zeros(count, np.bool_), *(mask for _, mask in coded)], axis=0)
    inverse, first = _distinct([codes for codes, _ in coded], count)
    found = np.array([NO_SHAPE if loose[place] else number(place) for place in first.tolist()], np.int64)[inverse]
    found[loose] = NO_SHAPE
    return found, inverse


def _class_key(fields: Sequence[_Field], turn: int) -> Hashable:
    """Return the keys of one turn in order, with the values that are not texts."""
    key: list[Hashable] = []
    for field in fields:
        if field.texts is not None and field.texts[turn].is_valid:
            key.append(field.name)
        elif field.values is not None and field.values[turn].is_valid:
            key.append((field.name, _digest(field.values.type == json_columns.JSON, field.values[turn].as_py())))
    return tuple(key)


def _digest(is_json: bool, text: str) -> Hashable:
    """Return the text and its type; long texts are hashed so that keys stay small."""
    return is_json, text if len(text) < 64 else hashlib.sha256(text.encode()).digest()


def constants_of(chats: ConversationBatch, request: RenderRequest, classes: Classes) -> Int64Array:
    """Return a number per row for the request and for what the row has besides its messages (tools, …).

    `NO_SHAPE` where a column differs from row to row.
    """
    count = len(chats)
    given = [column if column is not None and column.null_count < count else None for column in chats.others]
    coded = [_codes(column) for column in given if column is not None]
    found, _ = _number(coded, count, lambda row: classes.number((request, *(_constant(each, row) for each in given))))
    return found


def _constant(column: pa.Array | None, row: int) -> Hashable:
    if column is None or not column[row].is_valid:
        return None
    return _digest(column.type == json_columns.JSON, column[row].as_py())


def _codes(column: pa.Array, few: int = FEW) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """Return a number per text of a column, 0 for null, and a mask of the rows with too many different texts."""
    none = np.zeros(len(column), np.bool_)
    if column.null_count == len(column):
        return np.zeros(len(column), np.int64), none
    present = to_bools(column.is_valid())
    if column.type not in (json_columns.TEXT, json_columns.JSON):
        return present.astype(np.int64), present
    filled = int(present.sum())
    if len(column) > 8 * FEW and _is_diverse(column.slice(0, len(column) // 8).unique(), few, filled):
        return present.astype(np.int64), present
    encoded = column.dictionary_encode()
    if _is_diverse(encoded.dictionary, few, filled):
        return present.astype(np.int64), present
    return _numbers(encoded.indices.fill_null(-1)) + 1, none


def _is_diverse(values: pa.Array, few: int, filled: int) -> bool:
    """Return whether there are too many different values, nulls excluded, among `filled` rows."""
    count = len(values) - values.null_count
    return count > few and (few < 0 or count * OFTEN > filled)


def _distinct(keys: Sequence[Int64Array], count: int) -> tuple[Int64Array, Int64Array]:
    """Return a number per position, equal where all keys are equal, and the first position of each number."""
    combined = np.zeros(count, np.int64)
    size = 1
    for key in keys:
        width = int(key.max()) + 1
        combined = combined * width + key
        size *= width
        if size > _WIDE_KEY:
            values, combined = np.unique(combined, return_inverse=True)
            size = len(values)
    return dense(combined, size)


def dense(keys: Int64Array, size: int) -> tuple[Int64Array, Int64Array]:
    """Renumber keys below `size` from 0 without gaps; return also the first position of each."""
    if size > max(1 << 16, 4 * len(keys)):
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        return inverse.astype(np.int64), first.astype(np.int64)
    at = np.full(size, -1, np.int64)
    at[keys[::-1]] = np.arange(len(keys) - 1, -1, -1)
    used = np.flatnonzero(at >= 0)
    place = np.zeros(size, np.int64)
    place[used] = np.arange(len(used))
    return place[keys], at[used]


class Shapes:
    """A tree of turn classes: the shape of a row is the node that its turns lead to from the node of its constants."""

    def __init__(self) -> None:
        self.classes = Classes(MAX_CLASSES)
        self.constants = Classes(MAX_STATES)
        self._roots: dict[int, int] = {}
        self._next = np.full((256, 16), NO_SHAPE, np.int32)
        self._states = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for new shapes."""
        return self._states >= MAX_STATES or len(self.classes) >= MAX_CLASSES or len(self.constants) >= MAX_STATES

    def of(self, turns: TurnTable, constants: Int64Array) -> Int64Array:
        """Return the shape of each conversation; `NO_SHAPE` for empty and very long ones, and if a turn has no class.

        `constants` holds a number per row for everything else that its shape depends on, or `NO_SHAPE`.
        """
        roots = {number: self._root(number) for number in distinct(constants)}
        state = np.array([roots[number] for number in constants.tolist()] if len(roots) > 1 else [*roots.values()])
        state = np.broadcast_to(state, len(constants)).astype(np.int64)
        state[(turns.lengths == 0) | (turns.lengths > MAX_TURNS)] = NO_SHAPE
        loose = np.flatnonzero(turns.classes == NO_SHAPE)
        state[np.searchsorted(turns.starts + turns.lengths, loose, "right")] = NO_SHAPE
        active = np.flatnonzero(state != NO_SHAPE)
        active = active[np.argsort(-turns.lengths[active], kind="stable")]
        lengths, starts, reached = turns.lengths[active], turns.starts[active], state[active]
        ends = np.searchsorted(-lengths, -np.arange(int(lengths.max(initial=0))), "left")
        for place, end in enumerate(ends.tolist()):
            reached[:end] = self._step(reached[:end], turns.classes.take(starts[:end] + place))
        state[active] = reached
        return state

    def _root(self, constant: int) -> int:
        if constant == NO_SHAPE:
            return NO_SHAPE
        if constant not in self._roots:
            self._roots[constant] = int(self._new_states(1)[0])
        return self._roots[constant]

    def _new_states(self, count: int) -> Int64Array:
        """Return the numbers of new states, `NO_SHAPE` for those without room."""
        while self._states + count > len(self._next) and 2 * self._next.size <= MAX_CELLS:
            self._next = np.concatenate([self._next, np.full_like(self._next, NO_SHAPE)])
        room = min(count, MAX_STATES - self._states, len(self._next) - self._states)
        found = np.full(count, NO_SHAPE, np.int64)
        found[:room] = np.arange(self._states, self._states + room)
        self._states += room
        return found

    def _step(self, state: Int64Array, classes: Int64Array) -> Int64Array:
        if len(classes) and classes.max() >= self._next.shape[1]:
            self._widen(int(classes.max()))
        following = self._next[state, classes].astype(np.int64)
        following[state == NO_SHAPE] = NO_SHAPE
        unknown = np.flatnonzero((following == NO_SHAPE) & (state != NO_SHAPE))
        if len(unknown):
            pairs = state[unknown] * self._next.shape[1] + classes[unknown]
            values, inverse = np.unique(pairs, return_inverse=True)
            found = self._new_states(len(values))
            self._next.ravel()[values] = found
            following[unknown] = found[inverse]
        return following

    def _widen(self, number: int) -> None:
        width = max(2 * self._next.shape[1], number + 1)
        wider = np.full((len(self._next), width), NO_SHAPE, np.int32)
        wider[:, : self._next.shape[1]] = self._next
        self._next = wider
