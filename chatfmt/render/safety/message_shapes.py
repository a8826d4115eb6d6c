"""The shapes of messages: what decides, apart from the words of its texts, whether a template prints a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...json_columns import JSON, TEXT
from ...schema import MEDIA
from ...turn_columns import IntArray, any_turn, contains, lengths_of, to_bools
from ..masks.markers import THINK_TAG


def has_media(messages: pa.ListArray) -> npt.NDArray[np.bool_]:
    """Return whether each conversation has parts of media, which no text of the conversation stands for."""
    marked = media_kinds(messages.flatten()) > 0
    return any_turn(messages, marked) if marked.any() else np.zeros(len(messages), np.bool_)


def message_shapes(
    messages: pa.ListArray, extras: Sequence[pa.Array | None] = (), paths: IntArray | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return, for each message of a column, the index of its row and a hash of its shape.

    Equal hashes mean the same role, fields, emptiness, reasoning tags and kinds of media, the same of the message
    before, the same position (first, last), the same roles of the first and the last message, that a user message
    follows in both or in none, the same presence of each of `extras`, and the same of `paths`, if there are any.
    """
    if not len(messages):  # as for most batches: all of their rows are known to print every text
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    lengths = lengths_of(messages)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    turns = messages.flatten()
    fills = [_named_fill(field.name, turns.field(index)) for index, field in enumerate(turns.type)]
    roles, numbers = role_hashes(turns), np.arange(len(rows))
    codes = _mix(roles, [_think_tags(turns), media_kinds(turns), *fills])
    first = (np.cumsum(lengths) - lengths)[rows]
    last, last_user = first + lengths[rows] - 1, np.full(len(lengths), -1)
    users = np.flatnonzero(roles == crc32(b"user"))
    last_user[rows[users]] = users
    before = np.where(numbers == first, np.uint64(0), np.roll(codes, 1))
    place = [numbers == last, roles[first], roles[last], last_user[rows] > numbers]
    place += [_fill(column)[rows] for column in extras if column is not None]
    place += [] if paths is None else [paths[rows]]
    return rows, _mix(codes, [before, *place])


def _think_tags(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return bits for turns with reasoning tags in their content, which templates cut out; also for blanks by them."""
    index = turns.type.get_field_index("content")
    bits = np.zeros(len(turns), np.uint64)
    if index < 0 or turns.type[index].type not in (TEXT, JSON):
        return bits
    column = turns.field(index).cast(pa.large_string())
    for number, pattern in enumerate((THINK_TAG, _BLANK_REASONING, _BLANK_ANSWER)):
        bits |= to_bools(pc.match_substring_regex(column, pattern).fill_null(False)) * np.uint64(1 << number)
        if not bits.any():
            break
    return bits


_BLANK = r"(?:[\s\p{Z}\x0b\x1c-\x1f\x{85}]|\\[nrtf]|\\u00(?:0b|1[c-f]))*"
"""A regular expression of RE2 for what `str.isspace` calls blanks, also with the escapes of JSON."""
_BLANK_REASONING, _BLANK_ANSWER = rf"<think(?:ing)?>{_BLANK}</think", rf"</think(?:ing)?>{_BLANK}\"?$"
_BLANK_TEXT = rf'(?:^|:)"{_BLANK}"'
"""A blank text in JSON."""


def media_kinds(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return, for each turn, which kinds of media its content parts have, as bits."""
    index = turns.type.get_field_index("content")
    bits = np.zeros(len(turns), np.uint64)
    if index < 0 or turns.type[index].type != JSON:
        return bits
    for number, kind in enumerate(MEDIA.values()):
        found = contains(turns.field(index), f'"type":"{kind}"').fill_null(False)
        bits |= found.cast(pa.uint64()).to_numpy() << np.uint64(number)
    return bits


def role_hashes(turns: pa.StructArray) -> npt.NDArray[np.uint64]:
    """Return a hash of the role of each turn, the same in every batch."""
    index = turns.type.get_field_index("role")
    if index < 0:
        return np.zeros(len(turns), np.uint64)
    encoded = turns.field(index).cast(pa.string()).dictionary_encode()
    numbers = np.array([*(crc32(name.encode()) for name in encoded.dictionary.to_pylist()), 0], np.uint64)
    indices: npt.NDArray[np.int64] = encoded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)
    return numbers[indices]


def _named_fill(name: str, column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return `_fill` with the field's name hashed in: batches of one file may have different fields."""
    return _fill(column) + np.uint64(crc32(name.encode()) << 6)


def _fill(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return 0 where a field is absent, 1 where it is blank, else 2; bits of JSON say that it is a list or an object.

    Other bits say that there is a blank text in it, and that there are several parts or calls.
    """
    filled = to_bools(column.is_valid()) * np.uint64(2)
    if pa.types.is_string(column.type):
        filled[to_bools(pc.or_(pc.utf8_is_space(column), pc.equal(column, "")).fill_null(False))] = 1
    elif column.type == JSON:
        filled[pc.binary_length(column).fill_null(3).to_numpy(zero_copy_only=False) <= 2] = 1
        for pattern, more in (("^\\[", 4), (_BLANK_TEXT, 8), ("^{", 16), (r"\},\{", 32)):
            filled += to_bools(pc.match_substring_regex(column, pattern).fill_null(False)) * np.uint64(more)
    return filled


def _mix(codes: npt.NDArray[np.uint64], others: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Hash other columns of numbers into the codes, to 64 bits; overflow is intended."""
    with np.errstate(over="ignore"):
        for other in others:
            codes = (codes ^ (codes >> np.uint64(31)) ^ other.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return codes
