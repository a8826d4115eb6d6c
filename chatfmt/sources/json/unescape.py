"""The escapes of JSON strings undone in place, for a whole block of text at once.

An escape is longer than what it stands for, so the text is written over its end and what is left of its beginning is
cut out when a string is put together.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from msgspec import Struct

from ...json_columns import TEXT, integers
from .structure import Octets, Positions

_U = ord("u")
_PLAIN = np.zeros(256, np.uint8)
_PLAIN[list(b'"\\/bfnrt')] = list(b'"\\/\b\f\n\r\t')
_NO_DIGIT = 255
_DIGIT = np.full(256, _NO_DIGIT, np.uint8)
_DIGIT[list(b"0123456789abcdef")] = range(16)
_DIGIT[list(b"ABCDEF")] = range(10, 16)
_UNIT = 6  # bytes of \uXXXX


class Cuts(Struct, frozen=True):
    """Text with its escapes undone, and the ranges [starts, ends) of it that belong to no string any more."""

    octets: Octets
    starts: Positions
    ends: Positions


def find_escapes(slashes: Positions) -> Positions:
    """Where escapes begin: each of the backslashes that is not itself escaped."""
    if not len(slashes):
        return slashes
    begins = np.ones(len(slashes), np.bool_)
    begins[1:] = np.diff(slashes) != 1
    if begins.all():
        return slashes
    run = np.maximum.accumulate(np.where(begins, slashes, 0))
    escapes: Positions = slashes[(slashes - run) & 1 == 0]
    return escapes


def undo(octets: Octets, escapes: Positions) -> Cuts | None:
    """The text with these escapes undone, in place; None, and the text spoilt, if one is not JSON or half a pair."""
    if not len(escapes):
        return Cuts(octets, escapes, escapes)
    behind = octets[escapes + 1]
    meant = _PLAIN[behind]
    units, simple = escapes[behind == _U], escapes[meant != 0]
    if len(units) + len(simple) != len(escapes):
        return None
    if not len(units):
        octets[escapes + 1] = meant
        return Cuts(octets, escapes, escapes + 1)
    spelled = _undo_units(octets, units) if units[-1] + _UNIT <= len(octets) else None
    if spelled is None:
        return None
    octets[simple + 1] = meant[meant != 0]
    starts, ends = np.concatenate([simple, spelled[0]]), np.concatenate([simple + 1, spelled[1]])
    order = np.argsort(starts)
    return Cuts(octets, starts[order], ends[order])


def _undo_units(octets: Octets, units: Positions) -> tuple[Positions, Positions] | None:
    """Write the UTF-8 of `\\uXXXX` at `units` over their ends; the ranges before it are to be cut."""
    digits = _DIGIT[octets[units[:, None] + np.arange(2, _UNIT)]]
    if (digits == _NO_DIGIT).any():
        return None
    codes = digits.astype(np.int64) @ np.array([4096, 256, 16, 1])
    high, low = (codes >> 10) == 0xD800 >> 10, (codes >> 10) == 0xDC00 >> 10
    paired = high[:-1] & low[1:] & (np.diff(units) == _UNIT)
    if np.count_nonzero(high) != len(paired[paired]) or np.count_nonzero(low) != len(paired[paired]):
        return None
    first = np.flatnonzero(paired)
    codes[first] = 0x10000 + ((codes[first] & 0x3FF) << 10) + (codes[first + 1] & 0x3FF)
    stops = units + _UNIT
    stops[first] += _UNIT
    kept = ~low
    return _write(octets, units[kept], stops[kept], codes[kept])


def _write(octets: Octets, starts: Positions, stops: Positions, codes: Positions) -> tuple[Positions, Positions]:
    sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    for size, lead in ((1, 0), (2, 0xC0), (3, 0xE0), (4, 0xF0)):
        some = sizes == size
        code, stop = codes[some], stops[some]
        for place in range(size - 1):
            octets[stop - 1 - place] = 0x80 | ((code >> (6 * place)) & 0x3F)
        octets[stop - size] = lead | (code >> (6 * (size - 1)))
    return starts, stops - sizes


def text_column(cuts: Cuts, starts: Positions, ends: Positions) -> pa.StringArray:
    """The strings [starts, ends) of the text, in order and apart, without what is cut."""
    first, stop = np.searchsorted(cuts.starts, starts), np.searchsorted(cuts.starts, ends)
    counts = stop - first
    total = int(counts.sum())
    before = np.cumsum(counts) - counts
    own = np.arange(len(starts)) + before
    cut = np.repeat(first - before, counts) + np.arange(total)
    piece_starts = _merged(starts, own, cuts.ends[cut])
    piece_ends = _merged(ends, own + counts, cuts.starts[cut])
    widths = np.concatenate([[0], np.cumsum(cuts.ends - cuts.starts)])
    lengths = ends - starts - (widths[stop] - widths[first])
    return _joined(cuts.octets, piece_starts, piece_ends, lengths)


def _merged(one: Positions, places: Positions, others: Positions) -> Positions:
    """`one` at its places, `others` in order at all other places."""
    if not len(others):
        return one
    merged = np.empty(len(one) + len(others), np.int64)
    rest = np.ones(len(merged), np.bool_)
    rest[places] = False
    merged[places], merged[rest] = one, others
    return merged


def _joined(octets: Octets, starts: Positions, ends: Positions, lengths: Positions) -> pa.StringArray:
    if not len(starts):
        return pa.array([], TEXT)
    bounds = np.empty(2 * len(starts), np.int32)
    bounds[0::2], bounds[1::2] = starts, ends
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(octets)]
    every = pa.Array.from_buffers(pa.binary(), len(bounds) - 1, buffers)
    data = every.take(integers(np.arange(0, len(bounds) - 1, 2))).buffers()[2]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.Array.from_buffers(TEXT, len(lengths), [None, pa.py_buffer(offsets), data])
