"""Find the strings in JSON Lines that `pyarrow.json` has parsed: which are keys, and where texts begin and end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...escaped_texts import EscapedTexts
from ...json_columns import TEXT
from .structure import Octets, Positions

_QUOTE, _SLASH, _BACKSLASH, _U = b'"/\\u'
_LONGEST_RUN = 1000
_MANY = 64
"""Bytes for each escape such as `\\u00e9` if these are many: then copying texts with their escapes would not pay."""
_TILE = 512 << 10
"""Bytes that are looked at together, so that temporary arrays stay in the cache."""


def strings_in_order(block: bytes, batch: pa.RecordBatch) -> list[EscapedTexts] | None:
    """Return where the texts of a batch stand in its lines; None if an object has its keys in another order.

    Nothing is returned of texts with very many escapes such as `\\u00e9`, which are not worth copying.

    `block` is valid JSON, and every object in it has each key of the schema once. So all strings are known by their
    order: if the first one is named as the first key, the next is its value or the key of a turn, and so on.
    """
    octets = np.frombuffer(block, np.uint8)
    strings = _quotes_and_escapes(octets)
    places, count = _keys(batch)
    if strings is None or len(strings[0]) != count:
        return None
    quotes, escapes = strings
    found = []
    for name, keys, texts in places:
        if not _are_named(octets, quotes[keys], quotes[keys + 1], name):
            return None
        if texts is not None and escapes is not None:
            found.append(EscapedTexts(texts, block, quotes[keys + 2] + 1, quotes[keys + 3], escapes))
    return found


def find_all(octets: Octets, byte: bytes) -> Positions:
    """The positions of a byte."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(octets), _TILE):
        found.append(_true(octets[start : start + _TILE] == byte[0]) + start)
    return np.concatenate(found)


def _true(mask: npt.NDArray[np.bool_]) -> Positions:
    """The positions of what is true, of which there is little: half the time of `np.flatnonzero`."""
    packed = np.packbits(mask)
    filled = np.flatnonzero(packed != 0)
    bits = np.flatnonzero(np.unpackbits(packed[filled]).view(np.bool_))
    positions: Positions = filled[bits >> 3] * 8 + (bits & 7)
    return positions


def _quotes_and_escapes(octets: Octets) -> tuple[Positions, Positions | None] | None:
    """The quotes that begin or end a string, and the `u` and `/` of escapes, None if these are many.

    None after very many backslashes. The first byte is `{`.
    """
    quotes, behind = list[Positions](), [np.zeros(0, np.int64)]
    most = len(octets) // _MANY
    for start in range(1, len(octets), _TILE):
        tile = octets[start : start + _TILE]
        backslashes = octets[start - 1 : start + len(tile)] == _BACKSLASH
        quotes.append(np.flatnonzero((tile == _QUOTE) > backslashes[:-1]) + start)
        wanted = backslashes[1:] | (tile == _U) | (tile == _SLASH) if most >= 0 else backslashes[1:]
        behind.append(_true(wanted & backslashes[:-1]) + start)
        most -= int(np.count_nonzero(octets[behind[-1]] != _BACKSLASH))
    escaped = _escaped(octets, np.concatenate(behind))
    if escaped is None:
        return None
    is_backslash = octets[escaped] == _BACKSLASH
    after = escaped[is_backslash] + 1  # so what comes after it is not escaped
    quotes.append(after[octets[after] == _QUOTE])
    return np.sort(np.concatenate(quotes), kind="stable"), escaped[~is_backslash] if most >= 0 else None


def _escaped(octets: Octets, behind: Positions) -> Positions | None:
    """Of positions after a backslash, those after an odd number of them; None after very many."""
    is_escaped = np.ones(len(behind), np.bool_)
    more = np.arange(len(behind))
    for distance in range(2, _LONGEST_RUN):
        more = more[octets[behind[more] - distance] == _BACKSLASH]
        if not len(more):
            escaped: Positions = behind[is_escaped]
            return escaped
        is_escaped[more] ^= True
    return None


Keys = tuple[str, Positions, pa.StringArray | None]
"""A name, the indices of the opening quotes of its keys among all quotes, and the texts that follow these keys."""


def _keys(batch: pa.RecordBatch) -> tuple[Iterator[Keys], int]:
    """The keys of a batch of texts and turns with their objects in the order of the schema, and the number of quotes.

    A text and its key have four quotes, the key of a list of turns has two.
    """
    counts = np.full((len(batch), batch.num_columns), 4, np.int64)
    for place, column in enumerate(batch.columns):
        if column.type != TEXT:
            counts[:, place] = 2 + 4 * column.type.value_type.num_fields * column.value_lengths().to_numpy()
    starts = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
    return _keys_at(batch, starts), int(counts.sum())


def _keys_at(batch: pa.RecordBatch, starts: Positions) -> Iterator[Keys]:
    for place, (field, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        if field.type == TEXT:
            yield field.name, starts[:, place], column
            continue
        yield field.name, starts[:, place], None
        lengths, width = column.value_lengths().to_numpy().astype(np.int64), 4 * field.type.value_type.num_fields
        before = np.cumsum(lengths) - lengths
        turns = np.repeat(starts[:, place] + 2 - width * before, lengths) + width * np.arange(lengths.sum())
        for number, (inner, texts) in enumerate(zip(field.type.value_type, column.flatten().flatten(), strict=True)):
            yield inner.name, turns + 4 * number, texts


def _are_named(octets: Octets, opening: Positions, closing: Positions, name: str) -> bool:
    """Whether all strings between these quotes are this name."""
    word = f'"{name}"'.encode()
    if not len(opening) or not (closing - opening == len(word) - 1).all():
        return not len(opening)
    windows = np.ndarray(len(octets) - len(word) + 1, f"V{len(word)}", octets, strides=(1,))
    found = windows[opening].view(np.uint8).reshape(-1, len(word))
    return bool((found == np.frombuffer(word, np.uint8)).all())
