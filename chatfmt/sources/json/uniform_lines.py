"""JSON lines that all have one shape, read for whole blocks at once: the speed of the readers.

The shape: every line is an object with the same keys in the same order, each value a string or a list of objects
(turns) that are alike in turn, with strings only. Then what lies between the strings is one of a few short runs of
brackets, commas and colons. That is checked for every string, so that what is accepted here is exactly what the strict
parser accepts, with the same result; anything else gives None and is left to it.

Python objects are made for the block, not for its records.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from ...json_columns import TEXT, integers
from ...schema import KEYS, ROW
from .structure import Octets, Positions
from .unescape import Cuts, find_escapes, text_column, undo

Flags = npt.NDArray[np.bool_]

_WORD = 8
_LONGEST_GAP = _WORD - 1
_TILE = 64 << 10  # bytes whose temporary arrays stay in the cache, and in memory that is there already
_PAIR = 4  # quotes of the shortest record, a key and its text
COLON, INTO, COMMA, TURN, OUT, LAST, NEXT = range(7)
_GAPS: dict[bytes, int] = {
    b":": COLON, b":[{": INTO, b",": COMMA, b"},{": TURN, b"}],": OUT, b"}]}\n{": LAST, b"}\n{": NEXT,
}  # fmt: skip
"""What may lie between two strings, spaces left out."""
_TAILS = (b"}", b"}]}", b"}\n", b"}]}\n")


class Texts(NamedTuple):
    """Some strings of a block, by where they begin and end between their quotes."""

    starts: Positions
    ends: Positions


class Strings(Struct, frozen=True):
    """All strings of a block: `level` 1 inside a turn, `is_key`, and what lies behind each (`gaps`, one less)."""

    octets: Octets
    texts: Texts
    gaps: npt.NDArray[np.int8]
    level: npt.NDArray[np.int8]
    is_key: Flags


def uniform_fields(block: bytes) -> tuple[dict[str, pa.Array], int] | None:
    """The columns of the records in `block`, whole lines, and how many there are; None where they differ in shape."""
    octets = _writable(block)
    marked = _marks(octets[: len(block)])
    if marked is None or not _is_utf8(block):
        return None
    found, lines = marked
    is_quote = octets[found] == ord('"')
    escapes = find_escapes(found[~is_quote])
    marks = _unescaped(octets, found[is_quote], escapes)
    if len(marks) < _PAIR or len(marks) % 2:
        return None
    strings = _checked(octets, block, lines, Texts(marks[0::2] + 1, marks[1::2]))
    cuts = undo(octets, escapes) if strings else None
    return _fields(strings, cuts) if strings and cuts else None


def _writable(block: bytes) -> Octets:
    """The bytes of the block and a word of zeros, in memory from a pool: fresh pages would cost more than all else."""
    octets = np.frombuffer(pa.allocate_buffer(len(block) + _WORD), np.uint8)
    octets[: len(block)] = np.frombuffer(block, np.uint8)
    octets[len(block) :] = 0
    return octets


def _marks(octets: Octets) -> tuple[Positions, int] | None:
    """Where quotes and backslashes are, and how many line ends; None if there are other control characters."""
    found, lines = [np.zeros(0, np.int64)], 0
    for start in range(0, len(octets), _TILE):
        tile = octets[start : start + _TILE]
        ends = int(np.count_nonzero(tile == ord("\n")))
        if np.count_nonzero(tile < ord(" ")) != ends:
            return None
        lines += ends
        found.append(np.flatnonzero((tile == ord('"')) | (tile == ord("\\"))) + start)
    return np.concatenate(found), lines


def _unescaped(octets: Octets, found: Positions, escapes: Positions) -> Positions:
    """The quotes `found` that are not escaped."""
    behind = escapes + 1
    escaped = behind[octets[behind] == ord('"')]
    if not len(escaped):
        return found
    kept = np.ones(len(found), np.bool_)
    kept[np.searchsorted(found, escaped)] = False
    return found[kept]


def _is_utf8(block: bytes) -> bool:
    whole = pa.array([0, len(block)], pa.int32()).buffers()[1]
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, whole, pa.py_buffer(block)]).cast(TEXT)
    except pa.ArrowInvalid:
        return False
    return True


def _checked(octets: Octets, block: bytes, lines: int, texts: Texts) -> Strings | None:
    """The strings of a block of so many lines, if all that is between them is JSON of the shape."""
    head, tail = block[: texts.starts[0] - 1], block[texts.ends[-1] + 1 :]
    gaps = _gaps(octets, texts)
    if b"\n" in tail and not tail.endswith(b"\n"):
        return None
    if gaps is None or head.replace(b" ", b"") != b"{" or tail.replace(b" ", b"") not in _TAILS:
        return None
    is_key = np.ones(len(texts.starts), np.bool_)
    is_key[1:] = gaps != COLON
    leads_on = np.append(gaps <= INTO, False)
    steps = np.zeros(len(is_key), np.int8)
    steps[1:] = (gaps == INTO).astype(np.int8) - ((gaps == OUT) | (gaps == LAST))
    level = np.cumsum(steps, dtype=np.int8)
    before = level[:-1]
    wrong = (((gaps == TURN) | (gaps == OUT) | (gaps == LAST)) & (before == 0)) | (
        ((gaps == NEXT) | (gaps == INTO)) & (before == 1)
    )
    ends_inside = bool(level[-1]) == (b"]" in tail)
    line_ends = np.count_nonzero((gaps == LAST) | (gaps == NEXT)) + tail.count(b"\n")
    if (leads_on != is_key).any() or wrong.any() or not ends_inside or lines != line_ends:
        return None
    return Strings(octets, texts, gaps, level, is_key)


def _gaps(octets: Octets, texts: Texts) -> npt.NDArray[np.int8] | None:
    """What lies behind each string but the last; None if it is something unknown."""
    starts = texts.ends[:-1] + 1
    lengths = texts.starts[1:] - 1 - starts
    if lengths.min(initial=1) < 1 or lengths.max(initial=1) > _LONGEST_GAP:
        return None
    words = np.lib.stride_tricks.sliding_window_view(octets, _WORD)
    codes = words[starts].view("<u8")[:, 0] & ((np.uint64(1) << (8 * lengths).astype(np.uint64)) - np.uint64(1))
    return _known(codes, lengths)


def _known(codes: npt.NDArray[np.uint64], lengths: Positions) -> npt.NDArray[np.int8] | None:
    kinds = np.full(len(codes), -1, np.int8)
    at = 0
    while at < len(kinds):
        text = int(codes[at]).to_bytes(_WORD, "little")[: int(lengths[at])]
        kind = _GAPS.get(text.replace(b" ", b""))
        if kind is None:
            return None
        kinds[(codes == codes[at]) & (lengths == lengths[at])] = kind
        rest = np.flatnonzero(kinds[at:] < 0)
        at = at + int(rest[0]) if len(rest) else len(kinds)
    return kinds


def _fields(strings: Strings, cuts: Cuts) -> tuple[dict[str, pa.Array], int] | None:
    """The columns of the records, if all have the keys of the first, each with the same kind of value."""
    keys = np.flatnonzero(strings.is_key & (strings.level == 0))
    begins = np.concatenate([[0], np.flatnonzero((strings.gaps == LAST) | (strings.gaps == NEXT)) + 1])
    table = _table(strings, keys, begins)
    names = _names(strings, table) if table is not None else None
    if table is None or names is None or ROW in names:
        return None
    into = np.append(strings.gaps == INTO, False)[table]
    if (into != into[0]).any():
        return None
    fields: dict[str, pa.Array] = {}
    for place, name in enumerate(names):
        column = _turns(strings, cuts, table, place) if into[0, place] else _column(strings, cuts, table[:, place] + 1)
        if column is None:
            return None
        fields[name] = column
    return fields, len(table)


def _table(strings: Strings, keys: Positions, begins: Positions) -> Positions | None:
    """The keys by object (rows), each object beginning at one of `begins`; None if they have not all as many."""
    count = int(np.searchsorted(keys, begins[1])) if len(begins) > 1 else len(keys)
    if not count or len(keys) != count * len(begins):
        return None
    table = keys.reshape(len(begins), count)
    return table if (table[:, 0] == begins).all() else None


def _names(strings: Strings, table: Positions) -> list[str] | None:
    """The names of the keys of the first object, if they differ and all other objects have the same."""
    names: list[str] = []
    for column in table.T:
        starts, ends = strings.texts.starts[column], strings.texts.ends[column]
        name = strings.octets[starts[0] : ends[0]]
        if b"\\" in name.tobytes() or (ends - starts != len(name)).any():
            return None
        if any((strings.octets[starts + place] != octet).any() for place, octet in enumerate(name)):
            return None
        names.append(name.tobytes().decode())
    return names if len(set(names)) == len(names) and KEYS not in names else None


def _column(strings: Strings, cuts: Cuts, which: Positions) -> pa.StringArray:
    return text_column(cuts, strings.texts.starts[which], strings.texts.ends[which])


def _turns(strings: Strings, cuts: Cuts, table: Positions, place: int) -> pa.ListArray | None:
    """The messages column of the keys in column `place` of the table."""
    inside = np.zeros(len(strings.is_key) + 1, np.int8)
    inside[table[:, place] + 1] = 1
    inside[_ends(strings, table, place)] -= 1
    chosen = np.cumsum(inside, dtype=np.int8)[:-1] == 1
    keys = np.flatnonzero(chosen & strings.is_key)
    opens = np.flatnonzero((strings.gaps == INTO) | (strings.gaps == TURN)) + 1
    begins = opens[chosen[opens]]
    turns = _table(strings, keys, begins)
    names = _names(strings, turns) if turns is not None else None
    if turns is None or names is None:
        return None
    columns = [_column(strings, cuts, turns[:, number] + 1) for number in range(len(names))]
    offsets = np.append(np.searchsorted(begins, table[:, place]), len(begins)).astype(np.int32)
    return pa.ListArray.from_arrays(integers(offsets), pa.StructArray.from_arrays(columns, names=names))


def _ends(strings: Strings, table: Positions, place: int) -> Positions:
    """Where the value of each key in column `place` ends: at the next key of its record, or at the next record."""
    if place + 1 < table.shape[1]:
        return table[:, place + 1]
    return np.append(table[1:, 0], len(strings.is_key))
